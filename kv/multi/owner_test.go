package multi_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi"
)

// severed is a store that can be cut off for good, as by the death of its client.
type severed struct {
	driver.Store
	ctx context.Context // done: it is cut off
}

var errSevered = errors.New("cut off")

func (s severed) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	if s.ctx.Err() != nil {
		return driver.Entry{}, errSevered
	}
	return s.Store.Get(ctx, r)
}

func (s severed) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	if s.ctx.Err() != nil {
		return driver.Result{Outcome: driver.NotApplied}, errSevered
	}
	return s.Store.Swap(ctx, w)
}

func (s severed) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	if s.ctx.Err() != nil {
		return errSevered
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	return s.Store.Watch(ctx, req, emit)
}

// member is one client of a fleet whose first store is spread by gossip.
type member struct {
	*multi.Client
	die context.CancelFunc
}

func (p *pair) members(n int) (all []member) {
	for range n {
		ctx, die := context.WithCancel(context.Background())
		p.t.Cleanup(die)
		o := kv.Options{Logger: quiet, RetryTimeout: time.Second}
		var backends []multi.Backend
		for i, s := range p.stores {
			backends = append(backends, multi.Backend{
				Name: fmt.Sprint("store", i), Client: kv.New(severed{s.Open(), ctx}, codec.String{}, &o), Gossip: i == 0,
			})
		}
		cfg := multi.DefaultConfig()
		cfg.RepairInterval = 0
		c, err := multi.New(cfg, backends, multi.WithLogger(quiet))
		if err != nil {
			p.t.Fatal(err)
		}
		p.t.Cleanup(func() { c.Close() })
		all = append(all, member{c, die})
	}
	return all
}

// owners are those that mirror.
func owners(all []member) (at []int) {
	for i, m := range all {
		if m.Status().Owns {
			at = append(at, i)
		}
	}
	return at
}

// Where a store is spread by gossip, one client mirrors for all, and what nobody
// wrote through any of them. When it dies another one takes its place, and
// repairs what was missed.
func TestOneClientMirrorsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		put(t, p.plain[0], "before", "v")
		put(t, p.plain[1], "extra", "v")
		all := p.members(3)
		arrives := func(within time.Duration, key string, want any) {
			t.Helper()
			for deadline := time.Now().Add(within); get(t, p.plain[1], key) != want; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%q is still %v after %v, not %v", key, get(t, p.plain[1], key), within, want)
				}
			}
		}
		arrives(3*time.Second, "before", "v")
		arrives(3*time.Second, "extra", nil)
		time.Sleep(time.Minute)
		first := owners(all)
		if len(first) != 1 {
			t.Fatalf("%v are owners", first)
		}
		for i, m := range all {
			if s := m.Status(); s.Owner == "" || s.Owner != all[first[0]].Status().Owner {
				t.Errorf("client %d knows of the owner %q", i, s.Owner)
			}
		}
		put(t, p.plain[0], "foreign", "v")
		arrives(time.Second, "foreign", "v")
		if err := p.plain[0].Delete(t.Context(), "foreign"); err != nil {
			t.Fatal(err)
		}
		arrives(time.Second, "foreign", nil)
		for i, m := range all {
			put(t, m, fmt.Sprint("by", i), "v")
			arrives(time.Second, fmt.Sprint("by", i), "v")
			if err := errors.Join(m.SetMirroring(false), m.SetMirroring(true)); err != nil { // which asks for a repair
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		for i, m := range all {
			if s := m.Status(); (s.Mirrors[1].Mirrored > 0) != s.Owns || (s.Repair != nil) != s.Owns {
				t.Errorf("client %d, which is the owner or not: %t, has mirrored %d keys and repaired %+v", i, s.Owns, s.Mirrors[1].Mirrored, s.Repair)
			}
		}

		all[first[0]].die()
		put(t, p.plain[0], "missed", "v")
		if err := p.plain[0].Delete(t.Context(), "before"); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
			now := owners(all)
			if len(now) > 1 {
				t.Fatalf("%v are owners at once", now)
			}
			if len(now) == 1 && now[0] != first[0] {
				t.Logf("another owner after %v", time.Since(began))
				break
			}
			if time.Since(began) > 20*time.Second {
				t.Fatal("nobody takes the place of the owner that died")
			}
		}
		arrives(2*time.Second, "missed", "v") // what differs may be about to be mirrored, for a second
		arrives(2*time.Second, "before", nil)

		// One that closes leaves its place at once.
		second := owners(all)[0]
		if err := all[second].Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		third := owners(all)
		if len(third) != 1 || third[0] == second || third[0] == first[0] {
			t.Fatalf("after the owner closed %v are owners", third)
		}
		put(t, p.plain[0], "last", "v")
		arrives(time.Second, "last", "v")
	})
}

// The owner goes with the primary.
func TestTheOwnerFollowsASwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		m := p.members(1)[0]
		time.Sleep(2 * time.Second)
		put(t, m, "k", "1")
		if err := m.SetPrimary(t.Context(), "store1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		put(t, p.plain[1], "k", "2")
		time.Sleep(time.Second)
		if got := get(t, p.plain[0], "k"); got != "2" {
			t.Errorf("what was written in the new primary is %v in the old one", got)
		}
		put(t, p.plain[0], "k", "3")
		time.Sleep(time.Second)
		if got := get(t, p.plain[1], "k"); got != "2" {
			t.Errorf("the new primary took %v from the old one", got)
		}
	})
}

// A coordinated migration needs guards, which no gossip has.
func TestGossipIsNotCoordinated(t *testing.T) {
	p := newPair(t)
	_, err := multi.New(coordinatedConfig(), []multi.Backend{
		{Name: "first", Client: p.plain[0], Gossip: true}, {Name: "second", Client: p.plain[1]},
	})
	if !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("New returned %v", err)
	}
}
