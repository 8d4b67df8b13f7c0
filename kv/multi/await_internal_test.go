package multi

import (
	"context"
	"errors"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// readBy returns records that a test reads in place of their goroutines.
func readBy(t *testing.T, states [2]side.State) *records {
	t.Helper()
	rs := saying(states, func(rs *records) {
		rs.core = coreOf(t, nil)
		rs.core.mirror = newMirror(rs.core)
		rs.core.cfg.Coordinated = true
		rs.changed = make(chan struct{})
		rs.alarm = time.AfterFunc(time.Hour, func() {})
		for i := range rs.refreshes {
			rs.refreshes[i] = make(chan struct{}, 1)
			rs.seen[i].ticket = 0
		}
	})
	rs.mu.Lock()
	rs.derive()
	rs.mu.Unlock()
	return rs
}

// sawAgain has a store's record read, which is at so many versions more than before.
func (rs *records) sawAgain(i int, later kv.Version) {
	rs.mu.Lock()
	s, ticket := rs.seen[i], rs.ticket
	rs.mu.Unlock()
	rs.saw(i, s.record, s.version+later, nil, ticket)
	synctest.Wait()
}

// result is how waiting for a route ended, and when.
type result struct {
	route *route
	err   error
	at    time.Time
}

func (rs *records) awaited(ctx context.Context, w *waiting) <-chan result {
	done := make(chan result, 1)
	go func() {
		r, err := rs.reading(ctx, w)
		done <- result{r, err, time.Now()}
	}()
	synctest.Wait()
	return done
}

// A route whose guard was broken is taken again once both records were read and are
// as they were, after a moment.
func TestAGuardThatIsWholeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, first := range []int{0, 1} {
			rs := readBy(t, [2]side.State{side.Primary, side.Standby})
			var w waiting
			r, err := rs.reading(t.Context(), &w)
			if err != nil || r.at != 0 {
				t.Fatal(r, err)
			}
			if rs.again(r, errors.New("mine"), &w) || w.bad != nil || !rs.again(r, kv.ErrFenced, &w) || w.bad != r {
				t.Fatalf("after errors: %+v", w)
			}
			done := rs.awaited(t.Context(), &w)
			rs.sawAgain(first, 0)
			if len(done) > 0 {
				t.Fatal("the other record may say something else")
			}
			began := time.Now()
			rs.sawAgain(other(first), 0)
			if len(done) > 0 {
				t.Fatal("the call is made again at once")
			}
			if got := <-done; got.route != r || got.err != nil || got.at.Sub(began) != 5*time.Millisecond || w.bad != nil {
				t.Errorf("%+v after %v, %+v", got, got.at.Sub(began), w)
			}

			w = waiting{}
			rs.again(r, kv.ErrFenced, &w)
			ctx, cancel := context.WithCancel(t.Context())
			done = rs.awaited(ctx, &w)
			rs.sawAgain(0, 0)
			rs.sawAgain(1, 0)
			cancel()
			if got := <-done; got.route != nil || !errors.Is(got.err, context.Canceled) {
				t.Errorf("when its ctx ends in that moment: %+v", got)
			}

			w = waiting{}
			rs.again(r, kv.ErrFenced, &w)
			done = rs.awaited(t.Context(), &w)
			began = time.Now()
			rs.sawAgain(0, 1)
			if got := <-done; got.route == r || got.route == nil || got.route.at != 0 || got.err != nil || !got.at.Equal(began) {
				t.Errorf("when the record has changed: %+v after %v", got, got.at.Sub(began))
			}
		}
	})
}

// That no store is primary is believed when two rounds of reads say the same.
func TestNoPrimaryIsBelievedTheSecondTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, changes := range [][2]kv.Version{{0, 0}, {1, 0}, {0, 1}} {
			rs := readBy(t, [2]side.State{side.Standby, side.Retired})
			var w waiting
			done := rs.awaited(t.Context(), &w)
			if len(done) > 0 || rs.waiting != 1 {
				t.Fatalf("it is believed at once; %d wait", rs.waiting)
			}
			rs.sawAgain(0, changes[0])
			if len(done) > 0 {
				t.Fatal("it is believed after one read")
			}
			rs.sawAgain(1, changes[1])
			if changes != [2]kv.Version{} {
				if len(done) > 0 {
					t.Fatalf("it is believed though the records have changed: %v", changes)
				}
				rs.sawAgain(1, 0)
				rs.sawAgain(0, 0)
			}
			if len(done) == 0 {
				t.Fatalf("it is not believed: %v", changes)
			}
			if got := <-done; got.route != nil || !errors.Is(got.err, kv.ErrFenced) || rs.waiting != 0 {
				t.Errorf("%+v; %d wait", got, rs.waiting)
			}
		}
	})
}

// What a change is of use for is captured, and nothing else.
func TestWhatIsCapturable(t *testing.T) {
	c := coreOf(t, nil)
	c.mirror = newMirror(c)
	v, r := &view{core: c, stores: c.stores}, &route{at: 0}
	expect := func(what string, want bool) {
		t.Helper()
		if v.capturable(r, "k") != want || (v.capture(r, "k") != nil) != want {
			t.Errorf("%s: %v, %+v", what, v.capturable(r, "k"), v.capture(r, "k"))
		}
	}
	expect("mirroring is off", false)
	c.mirror.set(1, mirrorPaused)
	expect("mirroring is paused", false)
	c.mirror.set(1, mirrorOn)
	expect("mirroring is on", true)
	if n := v.capture(r, "k"); n.client != c.stores[0].raw || n.codec != c.stores[0].coded {
		t.Errorf("by %+v", n)
	}
	if v.capturable(r, ownerKey) || v.capturable(&route{at: 1}, "k") {
		t.Error("a key of ours, or what is written in the other store, is captured")
	}
	v.raw = true
	if n := v.capture(r, "k"); n.client != c.stores[0].raw || n.codec != nil {
		t.Errorf("of a raw view by %+v", n)
	}
	v.raw = false
	c.mirror.directions[1].dead = true
	expect("the store is dead", false)
	c.mirror.directions[1].dead = false
	c.owner = &owner{}
	expect("another client mirrors for all", false)
	c.owner = nil
	was := *c.stores[0]
	if c.stores[0].coded = nil; v.capture(r, "k") != nil {
		t.Error("values of an unknown codec are captured")
	}
	*c.stores[0] = was
	if c.stores[0].raw = nil; v.capture(r, "k") != nil {
		t.Error("what shows no bytes is captured")
	}
}

// void is a codec that makes nothing of anything.
type void struct{}

func (void) CodecID() string            { return "void" }
func (void) Encode(any) ([]byte, error) { return nil, nil }
func (void) Decode([]byte) (any, error) { return nil, nil }

func TestCapturesOfOddValues(t *testing.T) {
	bytes, none := &capture{}, &capture{codec: void{}}
	if before, value, err := bytes.open(nil); before != nil || value != nil || err != nil {
		t.Errorf("of an absent key: %v, %v, %v", before, value, err)
	}
	if before, value, err := bytes.open(7); before != nil || value != nil || err == nil || err.Error() != "the raw view returned a int instead of bytes" {
		t.Errorf("of a number: %v, %v, %v", before, value, err)
	}
	if before, value, err := bytes.open([]byte{}); before == nil || value == nil || err != nil {
		t.Errorf("of an empty value: %v, %v, %v", before, value, err)
	}
	if _, value, err := none.open([]byte("v")); value != nil || err == nil || err.Error() != `the stored value can't be decoded with codec "void": the value decodes to nil` {
		t.Errorf("of a codec that makes nothing of it: %v, %v", value, err)
	}
	if out, err := none.seal("v"); out == nil || len(out) != 0 || err != nil {
		t.Errorf("sealed %v, %v", out, err)
	}
	if out, err := bytes.seal("v"); out != nil || err == nil {
		t.Errorf("sealed %v, %v", out, err)
	}
}

func TestRelease(t *testing.T) {
	ours, others := debug.Module{Path: "github.com/polykv/polykv", Version: "v1.2.3"}, debug.Module{Path: "example.com/other", Version: "v9"}
	for want, info := range map[string]*debug.BuildInfo{
		"v1.2.3": {Main: others, Deps: []*debug.Module{&others, &ours}},
		"":       {Main: others, Deps: []*debug.Module{&others}},
		"v2":     {Main: debug.Module{Path: ours.Path, Version: "v2"}},
	} {
		if got := releaseIn(info, true); got != want {
			t.Errorf("%+v is %q", info, got)
		}
	}
	if got := releaseIn(nil, false); got != "" {
		t.Errorf("of no module: %q", got)
	}
}

// restless is a reporter whose standing changes all the time.
type restless struct{ now standing }

func (r *restless) standing() (standing, <-chan struct{}) {
	r.now.epoch++
	changed := make(chan struct{})
	time.AfterFunc(10*time.Millisecond, func() { close(changed) })
	return r.now, changed
}

func (r *restless) sees() (int, []side.Sight) { return 0, nil }

// A change is reported within half a second, however many follow it, and a heartbeat
// is due in time without one.
func TestChangesAreReportedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			h := &heartbeat{source: &restless{}}
			began := time.Now()
			h.untilDue(t.Context(), standing{}, time.Hour)
			if took := time.Since(began); took > heartbeatSpread {
				t.Fatalf("after %v", took)
			}
		}
		rs := readBy(t, [2]side.State{side.Primary, side.Standby})
		h := &heartbeat{source: rs}
		now, _ := rs.standing()
		began := time.Now()
		for range 3 {
			time.AfterFunc(time.Second, func() { rs.saw(0, rs.seen[0].record, rs.seen[0].version, nil, 0) }) // nothing new
			h.untilDue(t.Context(), now, 10*time.Second)
		}
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("three heartbeats took %v", took)
		}
	})
}

// Turning mirroring off forgets everything that is to be mirrored into a store,
// whatever it waits for, and nothing of the other one.
func TestWhatIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside, goOn := make(chan struct{}), make(chan struct{})
		c := coreOf(t, func(at int, s driver.Store) driver.Store {
			return heldUp{s, func(s driver.Swap) error {
				if at == 1 && s.Key == "running" {
					close(inside)
					<-goOn
				}
				return nil
			}}
		})
		c.selector = &into{at: 1}
		c.cfg.MirrorWorkers = 1
		m := newMirror(c)
		m.set(0, mirrorPaused)
		m.add(t.Context(), 0, "other", nil)
		m.set(1, mirrorPaused)
		plant(t, c.stores[0], "running", "v")
		m.add(t.Context(), 1, "running", nil)
		if r := m.add(t.Context(), 1, "running", nil); r != nil {
			t.Error("there is something to wait for, though mirroring is paused")
		}
		m.set(1, mirrorOn)
		<-inside
		waiters := []<-chan struct{}{m.add(t.Context(), 1, "running", nil), m.add(t.Context(), 1, "queued", nil)}
		m.mu.Lock()
		d := m.directions[1]
		put := &task{direction: d, key: "put off"}
		d.tasks[put.key] = put
		m.putOff(put)
		emptied := d.emptied
		m.mu.Unlock()
		if m.queue.Len() != 1 || d.backlog.Len() != 1 || len(d.tasks) != 3 || d.retryAt.IsZero() {
			t.Fatalf("%d are queued, %d put off, of %d", m.queue.Len(), d.backlog.Len(), len(d.tasks))
		}
		m.set(1, mirrorOff)
		for _, waiter := range append(waiters, emptied) {
			<-waiter
		}
		if m.queue.Len() != 0 || d.backlog.Len() != 0 || len(d.tasks) != 0 || !d.retryAt.IsZero() || d.dead || d.probe != nil || len(m.directions[0].tasks) != 1 {
			t.Errorf("%d are queued, %d put off, of %d", m.queue.Len(), d.backlog.Len(), len(d.tasks))
		}
		m.set(1, mirrorOn)
		again := m.add(t.Context(), 1, "running", nil) // while the one that was dropped still runs
		close(goOn)
		<-again
		synctest.Wait()
		if len(d.tasks) != 0 || d.mirrored != 1 || m.workers != 0 {
			t.Errorf("%d tasks, %d mirrored, %d workers", len(d.tasks), d.mirrored, m.workers)
		}
		m.abandon()
		if m.add(t.Context(), 1, "late", nil) != nil || len(d.tasks) != 0 || len(m.directions[0].tasks) != 0 {
			t.Error("something is kept after Close")
		}
	})
}

// A broken guard, and a store that takes no mirrored writes now, are no failures: the
// records say what comes of them.
func TestWhatIsNoFailureOfAMirror(t *testing.T) {
	for _, test := range []struct {
		selector *into
		want     error
		losses   int
	}{{&into{at: 1, guards: side.Guards(7)}, kv.ErrFenced, 1}, {&into{at: -1}, errPaused, 0}} {
		synctest.Test(t, func(t *testing.T) {
			c := coreOf(t, nil)
			c.selector = test.selector
			m := newMirror(c)
			m.set(1, mirrorOn)
			plant(t, c.stores[0], "k", "v")
			m.add(t.Context(), 1, "k", nil)
			synctest.Wait()
			d := m.directions[1]
			if !errors.Is(d.tasks["k"].err, test.want) || d.failed != 0 || d.dead || d.lastErr != nil || d.backlog.Len() != 1 || len(test.selector.losses) != test.losses {
				t.Errorf("%v: %+v of %+v, lost %v", test.want, d.tasks["k"], d, test.selector.losses)
			}
			m.abandon()
		})
	}
}

// A key that was written while it was mirrored, and mirroring paused, is kept, and its
// age is that of the last write.
func TestAWriteAmidAMirrorThatIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inside, goOn := make(chan struct{}), make(chan struct{})
		c := coreOf(t, func(at int, s driver.Store) driver.Store {
			return heldUp{s, func(driver.Swap) error {
				if at == 1 {
					inside <- struct{}{}
					<-goOn
				}
				return nil
			}}
		})
		c.selector = &into{at: 1}
		m := newMirror(c)
		m.set(1, mirrorOn)
		d := m.directions[1]
		plant(t, c.stores[0], "k", "v")
		m.add(t.Context(), 1, "k", nil)
		<-inside
		time.Sleep(time.Second)
		m.add(t.Context(), 1, "k", nil)
		m.set(1, mirrorPaused)
		goOn <- struct{}{}
		synctest.Wait()
		if m.queue.Len() != 0 || d.backlog.Len() != 1 || len(d.tasks) != 1 || d.mirrored != 1 || m.status()[1].Oldest != 0 || !d.retryAt.IsZero() {
			t.Errorf("%d are queued, %d put off, of %d: %+v", m.queue.Len(), d.backlog.Len(), len(d.tasks), m.status()[1])
		}
		m.set(1, mirrorOn) // nothing is left to write
		synctest.Wait()
		if len(d.tasks) != 0 || d.mirrored != 2 {
			t.Errorf("%d tasks, %d mirrored", len(d.tasks), d.mirrored)
		}
	})
}

// Mirroring that is turned on tries everything again, unless it was on and the store is
// known not to answer.
func TestWhatIsTriedWhenMirroringIsOn(t *testing.T) {
	for _, test := range []struct {
		was        mirrorState
		dead, want bool
	}{{mirrorOn, true, false}, {mirrorOn, false, true}, {mirrorPaused, true, true}, {mirrorPaused, false, true}} {
		c := coreOf(t, nil)
		c.cfg.MirrorWorkers = 0 // what is queued stays
		m := newMirror(c)
		d := m.directions[1]
		m.set(1, mirrorPaused)
		m.add(t.Context(), 1, "k", nil)
		d.state, d.dead = test.was, test.dead
		d.pause.Take()
		d.pause.Take()
		m.set(1, mirrorOn)
		if queued := m.queue.Len() == 1; queued != test.want || d.backlog.Len() == 1 == test.want || d.dead == test.want || test.want && d.pause.Next > 2*c.cfg.MirrorMinBackoff {
			t.Errorf("was %v, dead %v: %d are queued, %d put off; the next pause is %v", test.was, test.dead, m.queue.Len(), d.backlog.Len(), d.pause.Next)
		}
	}
}
