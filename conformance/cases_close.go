package conformance

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
)

func closeCases() []testCase {
	return []testCase{
		{"X1", "later-calls", "calls after Close get ErrClosed", 0, callsAfterClose},
		{"X1", "idempotent", "Close may be called again, and by many at once", 0, closeIsIdempotent},
		{"X1", "ends-watches", "Close ends running watches", 0, closeEndsWatches},
		{"X1", "ends-cas", "Close ends CAS calls in their backoff with ErrClosed", needOptions, closeEndsCAS},
		{"X1", "ends-waiting", "Close ends CAS calls that wait for another's callback", needOptions, closeEndsWaiting},
		{"X1", "in-callbacks", "Close works in callbacks of CAS and of watches", 0, closeInCallbacks},
		{"X1", "not-for-callbacks", "Close does not wait for running callbacks", 0, closeWaitsForNoCallback},
		{"X1", "no-goroutine", "a closed client leaves no goroutine", 0, closeLeavesNoGoroutine},
		{"X1", "amid-calls", "Close amid calls of every kind ends each of them in order", 0, closeAmidCalls},
		{"X1", "while-away", "Close ends promptly while the store is away or does not answer", needLine, closeWhileAway},
	}
}

// everyCall lists calls of c, by name.
func (t *trial) everyCall(c kv.Client) map[string]func() error {
	write := func(any) (any, bool, error) { return "v", false, nil }
	calls := map[string]func() error{
		"Get":    func() error { _, err := c.Get(t.ctx(), "k"); return err },
		"List":   func() error { _, err := c.List(t.ctx(), ""); return err },
		"Delete": func() error { return c.Delete(t.ctx(), "k") },
		"CAS":    func() error { return c.CAS(t.ctx(), "k", write) },
		"Entries": func() error {
			for _, err := range kv.Entries(t.ctx(), c, "") {
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	extras := map[Extra]func() error{
		Watch: func() error {
			return kv.Watch(t.ctx(), c, kv.KeyRange("k"), func(kv.Event) bool { return false })
		},
		Ping:    func() error { return kv.Ping(t.ctx(), c) },
		Guarded: func() error { return tryGuarded(t, c) },
		Versioned: func() error {
			v, err := kv.Versioned(c)
			if err == nil {
				_, _, err = v.GetVersion(t.ctx(), "k")
			}
			return err
		},
		Raw: func() error {
			raw, err := kv.Raw(c)
			if err == nil {
				_, err = raw.Get(t.ctx(), "k")
			}
			return err
		},
	}
	for extra, call := range extras {
		if t.has(extra) {
			calls[string(extra)] = call
		}
	}
	return calls
}

func callsAfterClose(t *trial) {
	c, other := t.open(), t.open()
	t.put(c, "k", "v")
	t.ok(c.Close(), "Close")
	for name, call := range t.everyCall(c) {
		t.returns(name+" of a closed client", func() {
			t.wantErr(call(), name+" of a closed client", kv.ErrClosed)
		})
	}
	t.returns("a watch of a closed client", func() {
		c.WatchKey(t.ctx(), "k", func(any) bool { return true })
		c.WatchPrefix(t.ctx(), "", func(string, any) bool { return true })
	})
	t.wantGet(other, "k", "v")
}

func closeIsIdempotent(t *trial) {
	for range 5 {
		c := t.open()
		t.put(c, "k", "v")
		t.watchKey(c, "k").untilIs("k", "v")
		t.returns("Close by many", func() { t.each(8, func(int) { t.ok(c.Close(), "Close") }) })
		t.returns("a later Close", func() { t.ok(c.Close(), "a later Close") })
	}
}

func closeEndsWatches(t *trial) {
	c, other := t.open(), t.open()
	t.put(c, "k", "v")
	watches := []*watcher{t.watchKey(c, "k"), t.watchPrefix(c, ""), t.watchKey(c, "absent")}
	watches[0].untilIs("k", "v")
	watches[1].untilIs("k", "v")
	still := t.watchKey(other, "k")
	t.returns("Close", func() { t.ok(c.Close(), "Close") })
	for _, w := range watches {
		w.ended.wait("a watch returns when its client is closed")
	}
	t.put(other, "k", "w")
	still.untilIs("k", "w")
	watches[0].wantExactly("k", "v")
}

// closeEndsCAS has a pause that is longer than the case would wait.
func closeEndsCAS(t *trial) {
	c := t.open(func(o *kv.Options) { o.MinBackoff, o.MaxBackoff = 3*t.patience, 3*t.patience })
	asked := make(chan struct{}, 100)
	call := t.start(func() {
		err := t.cas(c, "k", func(any) (any, bool, error) {
			asked <- struct{}{}
			return nil, true, errPicky
		})
		t.wantErr(err, "a CAS whose client was closed", kv.ErrClosed)
	})
	t.receive(asked, "the callback is called")
	t.returns("Close", func() { t.ok(c.Close(), "Close") })
	call.wait("a CAS in its backoff returns when its client is closed")
}

// closeEndsWaiting closes a client in which calls wait for a callback that takes
// as long as it likes; it waited for another's itself before. A client that lets
// them go ahead instead has written what they say it has.
func closeEndsWaiting(t *trial) {
	c, other := t.open(func(o *kv.Options) { o.SlowCallback = 3 * t.patience }), t.open()
	letGo := t.heldCAS(c, "k")
	inside, release := make(chan struct{}, 100), make(chan struct{})
	blocked := t.start(func() {
		t.wantErr(t.cas(c, "k", func(any) (any, bool, error) {
			inside <- struct{}{}
			<-release
			return "blocked", false, nil
		}), "a CAS whose client was closed in its callback", kv.ErrClosed)
	})
	t.letOthersRun()
	letGo()
	t.receive(inside, "the callback is called")
	var waiting []*ending
	var written atomic.Bool
	for range 8 {
		waiting = append(waiting, t.start(func() {
			if err := tryPut(t.ctx(), c, "k", "waited"); err != nil {
				t.wantErr(err, "a CAS that waited when its client was closed", kv.ErrClosed)
				return
			}
			written.Store(true)
		}))
	}
	t.letOthersRun()
	t.returns("Close", func() { t.ok(c.Close(), "Close") })
	for _, call := range waiting {
		call.wait("a CAS that waited returns when its client is closed")
	}
	if blocked.yet() {
		t.Fatalf("a CAS returned while its callback was running")
	}
	close(release)
	blocked.wait("a CAS returns after its callback when its client was closed")
	if written.Load() {
		t.wantGet(other, "k", "waited")
	} else {
		t.wantGet(other, "k", nil)
	}
}

func closeInCallbacks(t *trial) {
	other := t.open()
	t.put(other, "k", "v")
	c := t.open()
	t.returns("a CAS whose callback closes the client", func() {
		err := t.cas(c, "k", func(any) (any, bool, error) {
			t.ok(c.Close(), "Close in the callback of a CAS")
			return "new", false, nil
		})
		t.wantErr(err, "a CAS whose callback closed the client", kv.ErrClosed)
	})
	t.wantGet(other, "k", "v")

	c = t.open()
	calls := 0
	t.returns("a watch whose callback closes the client", func() {
		c.WatchKey(t.ctx(), "k", func(any) bool {
			calls++
			t.ok(c.Close(), "Close in the callback of a watch")
			return true
		})
	})
	if calls != 1 {
		t.Fatalf("the callback that closed its client was called %d times", calls)
	}
}

func closeWaitsForNoCallback(t *trial) {
	other := t.open()
	t.put(other, "p/a", "v")
	c := t.open()
	inside, release := make(chan struct{}, 100), make(chan struct{})
	call := t.start(func() {
		err := t.cas(c, "k", func(any) (any, bool, error) {
			inside <- struct{}{}
			<-release
			return "new", false, nil
		})
		t.wantErr(err, "a CAS whose client was closed", kv.ErrClosed)
	})
	t.receive(inside, "the callback is called")
	w := t.stuckPrefix(c, "p/")
	t.returns("Close beside running callbacks", func() { t.ok(c.Close(), "Close") })
	t.letOthersRun()
	if call.yet() || w.ended.yet() {
		t.Fatalf("a call returned while its callback was running")
	}
	close(release)
	w.release()
	call.wait("a CAS returns after its callback when its client was closed")
	w.ended.wait("a watch returns after its callback when its client was closed")
	t.wantGet(other, "k", nil)
}

// closeLeavesNoGoroutine uses clients in every way before it closes them. What
// is left after the case is found at the end of every case, and named there.
func closeLeavesNoGoroutine(t *trial) {
	before := t.goroutines()
	for range 4 {
		c := t.open()
		t.put(c, "k", "v")
		for name, call := range t.everyCall(c) {
			t.ok(call(), "%s", name)
		}
		t.put(c, "k", "v")
		w := t.watchKey(c, "k")
		w.untilIs("k", "v")
		t.each(4, func(int) { t.put(c, "k", "v") })
		t.ok(c.Close(), "Close")
		w.ended.wait("a watch returns when its client is closed")
	}
	t.eventually("the goroutines of closed clients are gone", func() bool { return t.goroutines() <= before })
}

func closeAmidCalls(t *trial) {
	for range 4 {
		c, other := t.open(), t.open()
		var sure, started atomic.Int64
		busy := make(chan struct{})
		t.put(other, "k", "0")
		ended := t.start(func() {
			t.each(8, func(i int) {
				for {
					err := error(nil)
					switch i % 4 {
					case 0:
						_, err = c.Get(t.ctx(), "k")
					case 1:
						_, err = c.List(t.ctx(), "")
					default:
						err = t.cas(c, "k", increment)
						if err == nil {
							sure.Add(1)
						}
					}
					if started.Add(1) == 40 {
						close(busy)
					}
					if errors.Is(err, kv.ErrClosed) {
						return
					}
					t.ok(err, "a call before Close")
				}
			})
		})
		t.receive(busy, "the calls run")
		t.returns("Close amid calls", func() { t.ok(c.Close(), "Close") })
		ended.wait("the calls end when their client is closed")
		if got := int64(number(t.get(other, "k"))); got < sure.Load() || got > sure.Load()+4 {
			t.Fatalf("the counter is %d after %d increments", got, sure.Load())
		}
		t.delete(other, "k")
	}
}

func closeWhileAway(t *trial) {
	for _, interrupt := range []func(Line){Line.Cut, Line.Hang} {
		c, line := t.openLine()
		t.put(c, "k", "v")
		interrupt(line)
		before := line.Attempts()
		var ended []*ending
		for name, call := range map[string]func(ctx context.Context) error{
			"Get": func(ctx context.Context) error { _, err := c.Get(ctx, "k"); return err },
			"CAS": func(ctx context.Context) error { return tryPut(ctx, c, "k", "w") },
		} {
			ended = append(ended, t.start(func() {
				t.wantErr(call(t.Context()), name+" while the store is away and its client is closed", kv.ErrClosed)
			}))
		}
		t.eventually("the calls are tried", func() bool { return line.Attempts() >= before+2 })
		t.returns("Close while the store is away", func() { t.ok(c.Close(), "Close") })
		for _, e := range ended {
			e.wait("a call ends when its client is closed")
		}
	}
}
