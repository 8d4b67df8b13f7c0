package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func leaseCases() []testCase {
	return []testCase{
		{"E1", "kept", "what is attached to a lease that is kept alive stays, for longer than it would without", needLease | needDriver, leaseKept},
		{"E1", "restart", "what is attached to a lease outlives a restart of the server", needLease | needDriver | needRestart, leaseRestart},
		{"E1", "leader", "what is attached to a lease outlives a change of the leader", needLease | needDriver | needLeader, leaseLeader},
		{"E2", "expires", "what is attached to a lease vanishes after it, no earlier than its TTL, and watches tell", needLease | needDriver, leaseExpires},
		{"E2", "revoked", "what is attached to a lease that is closed is gone at once, and watches tell", needLease | needWatch, leaseRevoked},
		{"E3", "detached", "a write without the lease detaches a key, and one with another lease attaches it to that", needLease | needDriver, leaseDetached},
		{"E3", "detached-unseen", "so does the write of a client that never saw the key attached", needLease | needVersioned, leaseDetachedUnseen},
		{"E4", "told", "the owner of a lease that can't be renewed is told before its keys vanish", needLease | needLine, leaseToldFirst},
		{"E5", "over", "nothing is attached to a lease that is over, and nothing is written", needLease | needDriver, leaseOver},
		{"E5", "closed", "a lease that is closed writes nothing, and a client that is closed keeps none alive", needLease, leaseClosed},
	}
}

// leaser opens a handle of the driver as one that grants leases.
func (t *trial) leaser() (driver.Store, driver.Leaser) {
	t.Helper()
	d := t.openDriver()
	l, ok := d.(driver.Leaser)
	if !ok || l.MinLease() <= 0 {
		t.Fatalf("the harness says that there are leases, and the driver grants none")
	}
	return d, l
}

// shortest is the TTL of the cases that wait for the end of a lease.
func shortest(least time.Duration) time.Duration { return max(least, 400*time.Millisecond) }

func (t *trial) grant(l driver.Leaser) driver.Grant {
	t.Helper()
	g, err := l.Grant(t.ctx(), shortest(l.MinLease()))
	t.ok(err, "Grant")
	if g.TTL < shortest(l.MinLease()) || g.Bound < g.TTL {
		t.Fatalf("Grant of %v returned a TTL of %v with the bound %v", shortest(l.MinLease()), g.TTL, g.Bound)
	}
	return g
}

// attach writes a key by a lease.
func (t *trial) attach(d driver.Store, key string, id driver.LeaseID) driver.Entry {
	t.Helper()
	t.swap(d, driver.Swap{Key: key, Prev: t.entry(d, key), Value: []byte("attached"), Lease: id}, driver.Applied)
	return t.entry(d, key)
}

// renew renews a lease until that succeeds, whatever the store goes through.
func (t *trial) renew(l driver.Leaser, id driver.LeaseID) {
	t.Helper()
	t.eventually("a lease is renewed", func() bool {
		ctx, cancel := context.WithTimeout(t.ctx(), t.patience)
		defer cancel()
		err := l.Renew(ctx, id)
		if errors.Is(err, driver.ErrLeaseLost) {
			t.Fatalf("a lease that was kept alive is over")
		}
		return err == nil
	})
}

// inTime runs an attempt that keeps a lease alive, again if this process was too
// slow to do so: then it shows nothing.
func (t *trial) inTime(attempt func() (inTime bool)) {
	t.Helper()
	for range 5 {
		if attempt() {
			return
		}
	}
	t.Logf("this machine is too slow to keep a lease alive; the case shows nothing")
}

func leaseKept(t *trial) {
	d, l := t.leaser()
	t.inTime(func() bool {
		g := t.grant(l)
		began := time.Now()
		kept := t.attach(d, "kept", g.ID)
		for last := began; time.Since(began) < g.Bound+g.TTL; {
			time.Sleep(g.TTL / 4)
			if time.Since(last) > g.TTL*9/10 {
				return false
			}
			next := time.Now()
			err := l.Renew(t.ctx(), g.ID)
			if time.Since(last) > g.TTL*9/10 {
				return false
			}
			t.ok(err, "Renew")
			last = next
			if now := t.entry(d, "kept"); now.Version != kept.Version && time.Since(last) < g.TTL*9/10 {
				t.Fatalf("%v after it was attached to a lease that is kept alive, a key is at version %d, not %d", time.Since(began), now.Version, kept.Version)
			}
		}
		t.ok(l.Revoke(t.ctx(), g.ID), "Revoke")
		return true
	})
}

func leaseRestart(t *trial) {
	t.leaseThrough(func() { t.disrupt("restart", t.store.Restart) })
}

func leaseLeader(t *trial) {
	t.leaseThrough(func() { t.disrupt("change of the leader", t.store.ChangeLeader) })
}

func (t *trial) leaseThrough(disrupt func()) {
	d, l := t.leaser()
	t.inTime(func() bool {
		g, err := l.Grant(t.ctx(), 10*shortest(l.MinLease())) // servers take a while to come back
		t.ok(err, "Grant")
		before := t.attach(d, "kept", g.ID)
		began := time.Now()
		disrupt()
		if time.Since(began) > g.TTL*9/10 {
			return false
		}
		t.renew(l, g.ID)
		var now driver.Entry
		t.eventually("the store answers", func() bool {
			now, err = d.Get(t.ctx(), driver.GetRequest{Key: "kept"})
			return err == nil
		})
		if now.Version != before.Version {
			t.Fatalf("a key that is attached to a lease that is kept alive is at version %d, not %d", now.Version, before.Version)
		}
		return true
	})
}

func leaseExpires(t *trial) {
	d, l := t.leaser()
	g := t.grant(l)
	t.attach(d, "p/a", g.ID)
	t.attach(d, "p/b", g.ID)
	t.set(d, "p/c", []byte("not attached"))
	renewed := time.Now()
	t.ok(l.Renew(t.ctx(), g.ID), "Renew")
	deleted, first := map[string]bool{}, time.Duration(0)
	ctx, cancel := context.WithTimeout(t.ctx(), g.Bound+t.patience)
	defer cancel()
	err := d.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: "p/", IsPrefix: true}}, func(ev driver.Event) {
		if ev.Type == driver.Delete {
			if len(deleted) == 0 {
				first = time.Since(renewed)
			}
			if deleted[ev.Entry.Key] = true; len(deleted) == 2 {
				cancel()
			}
		}
	})
	if !deleted["p/a"] || !deleted["p/b"] || deleted["p/c"] || len(deleted) != 2 {
		t.Fatalf("%v after its last renewal, with a bound of %v, a lease has taken %v away (%v)", time.Since(renewed), g.Bound, deleted, show(err))
	}
	if first < g.TTL {
		t.Fatalf("what is attached to a lease of %v vanished %v after its renewal", g.TTL, first)
	}
	t.wantErr(l.Renew(t.ctx(), g.ID), "Renew of a lease whose keys are gone", driver.ErrLeaseLost)
	t.ok(l.Revoke(t.ctx(), g.ID), "Revoke of a lease that is over")
}

// leased returns c as one with leases.
func (t *trial) leased(c kv.Client) *kv.LeasedClient {
	t.Helper()
	l, err := kv.Leased(c)
	t.ok(err, "Leased")
	return l
}

func leaseRevoked(t *trial) {
	a, b := t.open(), t.open()
	lease, err := t.leased(a).Grant(t.ctx(), 1<<63-1)
	t.ok(err, "Grant")
	if lease.TTL() < time.Minute || lease.Bound() < lease.TTL() {
		t.Fatalf("a lease for ever has the TTL %v and the bound %v", lease.TTL(), lease.Bound())
	}
	w := t.watchEvents(b, kv.PrefixRange("p/"))
	t.put(b, "p/b", "stays")
	t.ok(lease.CAS(t.ctx(), "p/a", write("goes")), "CAS by a lease")
	t.ok(lease.CAS(t.ctx(), "p/n", func(any) (any, bool, error) { return nil, false, nil }), "CAS by a lease that writes nothing")
	t.wantList(b, "p/", "p/a", "p/b")
	w.until("a watch tells of what is attached", 1, func(ev kv.Event) bool { return ev.Type == kv.Put && ev.Key == "p/a" })
	t.ok(lease.Close(), "Close of a lease")
	t.wantList(b, "p/", "p/b")
	t.ok(lease.Close(), "Close of a lease again")
	if !t.features.HidesDeletes {
		w.until("a watch tells that a lease took its key away", 1, func(ev kv.Event) bool { return ev.Type == kv.Delete && ev.Key == "p/a" })
	}
	t.receive(lease.Done(), "the end of a lease that is closed")
	t.wantErr(lease.Err(), "Err of a lease that is closed", kv.ErrClosed)
	t.put(b, "p/a", "again")
	t.wantGet(a, "p/a", "again")
}

func leaseDetached(t *trial) {
	d, l := t.leaser()
	first := t.grant(l)
	second, err := l.Grant(t.ctx(), time.Hour)
	t.ok(err, "Grant")
	for _, key := range []string{"written", "again", "moved", "gone", "taken"} {
		t.attach(d, key, first.ID)
	}
	t.set(d, "written", []byte("without"))
	gone := t.entry(d, "again")
	t.swap(d, driver.Swap{Key: "again", Prev: gone, Remove: true}, driver.Applied)
	t.set(d, "again", []byte("created"))
	t.attach(d, "moved", second.ID)
	t.set(d, "plain", []byte("before"))
	t.attach(d, "plain", second.ID)
	t.ok(l.Revoke(t.ctx(), first.ID), "Revoke")
	for key, want := range map[string]bool{"written": true, "again": true, "moved": true, "gone": false, "taken": false, "plain": true} {
		if got := t.entry(d, key).Exists(); got != want {
			t.Fatalf("after the end of its first lease the key %q is there: %v", key, got)
		}
	}
	t.ok(l.Revoke(t.ctx(), second.ID), "Revoke")
	for key, want := range map[string]bool{"written": true, "again": true, "moved": false, "plain": false} {
		if got := t.entry(d, key).Exists(); got != want {
			t.Fatalf("after the end of its second lease the key %q is there: %v", key, got)
		}
	}
}

func leaseDetachedUnseen(t *trial) {
	a, b, c := t.open(), t.open(), t.open()
	lease, err := t.leased(a).Grant(t.ctx(), time.Minute)
	t.ok(err, "Grant")
	t.ok(lease.CAS(t.ctx(), "k", write("attached")), "CAS by a lease")
	_, version, err := t.versions(b).GetVersion(t.ctx(), "k")
	t.ok(err, "GetVersion")
	_, err = t.versions(c).SwapVersion(t.ctx(), "k", version, "detached")
	t.ok(err, "SwapVersion from a version that another client has read")
	t.ok(lease.Close(), "Close of a lease")
	t.wantGet(b, "k", "detached")
}

// leaseToldFirst has three chances: the moment between being told and the end of
// the keys is short, and this process may be slow.
func leaseToldFirst(t *trial) {
	watching := t.open()
	var last error
	for range 3 {
		owner, line := t.openLine()
		leased := t.leased(owner)
		lease, err := leased.Grant(t.ctx(), max(4*time.Second, shortest(leased.MinTTL())))
		t.ok(err, "Grant")
		t.ok(lease.CAS(t.ctx(), "k", write("mine")), "CAS by a lease")
		line.Cut()
		select {
		case <-lease.Done():
		case <-time.After(lease.Bound() + t.patience):
			t.Fatalf("the owner of a lease that can't be renewed is not told")
		}
		there := t.get(watching, "k") != nil
		line.Mend()
		last = lease.Err()
		t.wantErr(last, "Err of a lease that was lost", kv.ErrLeaseLost)
		t.wantErr(lease.CAS(t.ctx(), "other", write("late")), "CAS by a lease that was lost", kv.ErrLeaseLost)
		t.wantGet(watching, "other", nil)
		if there {
			return
		}
		t.delete(watching, "k")
	}
	t.Fatalf("what is attached to a lease was gone before its owner was told %v", last)
}

func leaseOver(t *trial) {
	d, l := t.leaser()
	g := t.grant(l)
	before := t.set(d, "there", []byte("before"))
	t.ok(l.Revoke(t.ctx(), g.ID), "Revoke")
	for _, prev := range []driver.Entry{before, {Key: "absent", Generation: before.Generation}} {
		r, err := d.Swap(t.ctx(), driver.Swap{Key: prev.Key, Prev: prev, Value: []byte("late"), Lease: g.ID, ID: 7})
		t.wantErr(err, "Swap by a lease that is over", driver.ErrLeaseLost)
		if r.Outcome != driver.NotApplied {
			t.Fatalf("Swap by a lease that is over returned %v", r.Outcome)
		}
		if now := t.entry(d, prev.Key); now.Version != prev.Version {
			t.Fatalf("Swap by a lease that is over wrote %q", prev.Key)
		}
	}
	t.wantErr(l.Renew(t.ctx(), g.ID), "Renew of a lease that is over", driver.ErrLeaseLost)
}

func leaseClosed(t *trial) {
	a, b := t.open(), t.open()
	lease, err := t.leased(a).Grant(t.ctx(), time.Minute)
	t.ok(err, "Grant")
	t.ok(lease.Close(), "Close of a lease")
	t.wantErr(lease.CAS(t.ctx(), "k", write("late")), "CAS by a lease that is closed", kv.ErrClosed)
	t.wantGet(b, "k", nil)
	_, err = t.leased(a).Grant(t.ctx(), 0)
	if err == nil {
		t.Fatalf("a lease of 0 s was granted")
	}
	left, err := t.leased(a).Grant(t.ctx(), time.Minute)
	t.ok(err, "Grant")
	t.ok(left.CAS(t.ctx(), "k", write("left")), "CAS by a lease")
	t.ok(a.Close(), "Close")
	t.receive(left.Done(), "the end of a lease whose client is closed")
	t.wantErr(left.Err(), "Err of a lease whose client is closed", kv.ErrClosed)
	_, err = t.leased(a).Grant(t.ctx(), time.Minute)
	t.wantErr(err, "Grant of a client that is closed", kv.ErrClosed)
}
