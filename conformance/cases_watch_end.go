package conformance

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

func watchEndCases() []testCase {
	return []testCase{
		{"W5", "false", "a callback that returns false ends the watch, and is not called again", 0, falseEndsWatch},
		{"W5", "ctx", "the end of ctx ends a watch promptly, idle or busy, and no call follows", 0, ctxEndsWatch},
		{"W5", "own-goroutine", "the callback runs on the goroutine that called, and its calls never overlap", 0, callbackOnOwnGoroutine},
		{"W5", "uses-client", "the callback may use the client, its own key and other watches included", 0, callbackUsesClient},
		{"W5", "no-goroutine", "a watch that ended leaves no goroutine", 0, watchLeavesNoGoroutine},
		{"W5", "ctx-during-callback", "a ctx that ends during a callback lets it finish and ends the watch after it", 0, ctxEndsDuringCallback},
		{"W5", "ended-before", "a watch whose ctx is over returns promptly", 0, watchWithEndedCtx},
	}
}

func falseEndsWatch(t *trial) {
	a, b := t.open(), t.open()
	t.fill(a, "p/", 5)
	for _, most := range []int{1, 3, 6} {
		calls := 0
		count := func() bool {
			calls++
			return calls < most
		}
		ended := t.start(func() { b.WatchPrefix(t.ctx(), "p/", func(string, any) bool { return count() }) })
		changes := 0
		t.eventually("a prefix watch returns when its callback returned false", func() bool {
			changes++
			t.put(a, "p/00000", fmt.Sprintf("%d/%d", most, changes))
			return ended.yet()
		})
		if calls != most {
			t.Fatalf("the callback returned false in call %d, and was called %d times", most, calls)
		}
	}
	calls := 0
	t.returns("a key watch whose callback returns false", func() {
		b.WatchKey(t.ctx(), "p/00000", func(any) bool {
			calls++
			return false
		})
	})
	if calls != 1 {
		t.Fatalf("the callback returned false at once, and was called %d times", calls)
	}
}

func ctxEndsWatch(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "0")
	idle := []*watcher{t.watchKey(b, "k"), t.watchPrefix(b, ""), t.watchKey(b, "absent")}
	idle[0].untilIs("k", "0")
	idle[1].untilIs("k", "0")
	for _, w := range idle {
		w.stop()
		before := len(w.all())
		t.put(a, "k", strconv.Itoa(before))
		t.put(a, "absent", "no more")
		marker := t.watchKey(b, "k")
		marker.untilIs("k", strconv.Itoa(before))
		marker.stop()
		if after := len(w.all()); after != before {
			t.Fatalf("a watch called back after it had returned")
		}
	}

	var done atomic.Bool
	writer := t.start(func() {
		for !done.Load() {
			t.ok(t.cas(a, "busy", increment), "CAS")
		}
	})
	defer done.Store(true)
	busy := t.watchKey(b, "busy")
	busy.until("some calls", func(calls []seen) bool { return len(calls) > 5 })
	busy.stop()
	done.Store(true)
	writer.wait("the writer ends")
}

// goroutineID is the number of the calling goroutine.
func goroutineID() string {
	buf := make([]byte, 64)
	fields := bytes.Fields(buf[:runtime.Stack(buf, false)])
	return string(fields[1])
}

func callbackOnOwnGoroutine(t *trial) {
	a, b := t.open(), t.open()
	keys := t.fill(a, "p/", 3)
	var running atomic.Int32
	check := func(own string) {
		if running.Add(1) > 1 {
			t.Errorf("two calls of one watch's callback overlap")
		}
		if id := goroutineID(); id != own {
			t.Errorf("the callback runs on goroutine %s, the watch was called on %s", id, own)
		}
		runtime.Gosched()
		running.Add(-1)
	}
	w := t.watchBy(false, func(ctx context.Context, f func(string, any) bool) {
		own := goroutineID()
		b.WatchPrefix(ctx, "p/", func(key string, value any) bool {
			check(own)
			return f(key, value)
		})
	})
	t.each(3, func(i int) {
		for n := range 20 {
			t.put(a, keys[i], strconv.Itoa(n))
		}
	})
	for _, key := range keys {
		w.untilIs(key, "19")
	}
	w.stop()
	own := ""
	t.returns("a key watch", func() {
		own = goroutineID()
		b.WatchKey(t.ctx(), keys[0], func(any) bool {
			check(own)
			return false
		})
	})
}

func callbackUsesClient(t *trial) {
	c := t.open()
	t.put(c, "k", "0")
	t.returns("a watch whose callback uses the client", func() {
		c.WatchKey(t.ctx(), "k", func(value any) bool {
			n := number(value)
			t.wantGet(c, "k", value)
			t.wantList(c, "k", "k")
			t.ok(t.cas(c, "k", increment), "CAS in the callback of a watch")
			nested := 0
			c.WatchKey(t.ctx(), "k", func(inner any) bool {
				nested = number(inner)
				return false
			})
			if nested <= n {
				t.Errorf("a watch in the callback of a watch began with %d after %d", nested, n)
			}
			return n < 4
		})
	})
	t.put(c, "gone", "v")
	t.returns("a watch whose callback deletes its key", func() {
		c.WatchPrefix(t.ctx(), "gone", func(key string, value any) bool {
			if value == nil || t.features.HidesDeletes {
				t.delete(c, key)
				return false
			}
			t.delete(c, key)
			return true
		})
	})
	t.wantGet(c, "gone", nil)
}

// watchLeavesNoGoroutine ends watches in every way, and wants as many
// goroutines as before them, while the client stays open.
func watchLeavesNoGoroutine(t *trial) {
	c := t.open()
	t.put(c, "k", "v")
	t.watchKey(c, "k").stop()     // what the client starts once and keeps
	const rounds, pooled = 30, 24 // a client may keep connections for later, and one of two stores reaches the second late
	before := t.goroutines()
	for range rounds {
		for _, w := range []*watcher{t.watchKey(c, "k"), t.watchPrefix(c, ""), t.watchKey(c, "absent")} {
			if w.follows("k") {
				w.untilIs("k", "v")
			}
			w.stop()
		}
		c.WatchKey(t.ctx(), "k", func(any) bool { return false })
	}
	t.eventually("the goroutines of watches that ended are gone", func() bool { return t.goroutines() <= before+pooled })
}

func ctxEndsDuringCallback(t *trial) {
	a, b := t.open(), t.open()
	w := t.stuckPrefix(b, "p/")
	t.put(a, "p/a", "second")
	w.cancel()
	t.wantGet(b, "p/a", "second")
	t.letOthersRun()
	if w.ended.yet() {
		t.Fatalf("a watch returned while its callback was running")
	}
	w.release()
	w.ended.wait("the watch returns after its callback")
	if n := len(w.all()); n != 1 {
		t.Fatalf("the callback was called %d times, though ctx had ended during its first call", n)
	}
}

func watchWithEndedCtx(t *trial) {
	c := t.open()
	t.put(c, "k", "v")
	cancelled, cancel := context.WithCancel(t.ctx())
	cancel()
	expired, cancel := context.WithDeadline(t.ctx(), time.Now().Add(-time.Hour))
	defer cancel()
	for _, ctx := range []context.Context{cancelled, expired} {
		t.returns("a watch whose ctx is over", func() {
			c.WatchKey(ctx, "k", func(any) bool { return true })
			c.WatchKey(ctx, "absent", func(any) bool { return true })
			c.WatchPrefix(ctx, "", func(string, any) bool { return true })
		})
	}
}
