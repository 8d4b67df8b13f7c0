package conformance

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
)

func slowWatchCases() []testCase {
	return []testCase{
		{"W2", "final-state", "a callback that was slow sees the final state", 0, slowSeesFinal},
		{"W2", "conflated", "changes during a slow callback are conflated, not queued", 0, slowIsConflated},
		{"W2", "every-key", "a slow callback sees the final state of every key, however many changed", 0, slowSeesEveryKey},
		{"W2", "short-lived", "keys that came and went during a slow callback leave nothing behind", 0, shortLivedKeys},
		{"W2", "one-slow-watch", "a slow callback holds up neither writers nor other watches", 0, slowHoldsUpNobody},
	}
}

// stuckPrefix starts a prefix watch, makes a key "a" below the prefix, and
// leaves the watch in the callback for it until it is released.
func (t *trial) stuckPrefix(c kv.Client, prefix string) *watcher {
	t.Helper()
	t.put(c, prefix+"a", "first")
	w := t.watchBy(true, func(ctx context.Context, f func(string, any) bool) { c.WatchPrefix(ctx, prefix, f) })
	w.until("its first call", func(calls []seen) bool { return len(calls) > 0 })
	return w
}

func slowSeesFinal(t *trial) {
	a, b := t.open(), t.open()
	w := t.stuckPrefix(b, "k")
	t.putSeen(a, b, "ka", 50)
	w.release()
	w.untilIs("ka", "49")
	last := -1
	for _, value := range w.of("ka")[1:] {
		if n := number(value); n <= last {
			t.Fatalf("the watch delivered %d after %d", n, last)
		} else {
			last = n
		}
	}
}

func slowIsConflated(t *trial) {
	changes := t.many(200, 40)
	a, b := t.open(), t.open()
	w := t.stuckPrefix(b, "k")
	t.putSeen(a, b, "ka", changes)
	w.release()
	w.untilIs("ka", strconv.Itoa(changes-1))
	if n := len(w.all()); n > changes/4 {
		t.Fatalf("%d changes during one call were delivered in %d calls", changes, n)
	}
}

// putSeen writes 0 to n-1, and waits each time until a quick watch of reader
// has seen it: a slow one could have been told of each by then.
func (t *trial) putSeen(writer, reader kv.Client, key string, n int) {
	t.Helper()
	quick := t.watchKey(reader, key)
	for i := range n {
		value := strconv.Itoa(i)
		t.put(writer, key, value)
		quick.untilIs(key, value)
		t.letOthersRun()
	}
	quick.stop()
}

// slowSeesEveryKey changes more keys than any buffer would hold.
func slowSeesEveryKey(t *trial) {
	a, b := t.open(), t.open()
	w := t.stuckPrefix(b, "p/")
	keys := t.fill(a, "p/", t.many(600, 150))
	for i := 0; i < len(keys); i += 3 {
		t.put(a, keys[i], "changed")
	}
	for i := 1; i < len(keys); i += 30 {
		t.delete(a, keys[i])
	}
	t.delete(a, "p/a")
	w.release()
	for i, key := range keys {
		switch {
		case i%3 == 0:
			w.untilIs(key, "changed")
		case i%30 != 1:
			w.untilIs(key, key)
		}
	}
	w.untilGone("p/a")
	t.put(a, "p/marker", "marker")
	w.untilIs("p/marker", "marker")
	for i := 1; i < len(keys); i += 30 {
		if states := w.of(keys[i]); len(states) > 0 && states[len(states)-1] != nil && !t.features.HidesDeletes {
			t.Fatalf("the last state delivered of %q is %s, but it was deleted", keys[i], show(states[len(states)-1]))
		}
	}
}

func shortLivedKeys(t *trial) {
	a, b := t.open(), t.open()
	w := t.stuckPrefix(b, "p/")
	quick := t.watchPrefix(a, "p/")
	t.each(4, func(g int) {
		for i := range 10 {
			key := fmt.Sprintf("p/short/%d/%d", g, i)
			t.put(a, key, "v")
			quick.untilIs(key, "v") // the slow watch could have been told, too
			t.letOthersRun()
			t.delete(a, key)
			quick.untilGone(key)
			t.letOthersRun()
		}
	})
	t.put(a, "p/marker", "marker")
	w.release()
	w.untilIs("p/marker", "marker")
	wantNoStrayDeletes(t, w)
}

// wantNoStrayDeletes wants every nil to come after a value of the same key.
func wantNoStrayDeletes(t *trial, w *watcher) {
	t.Helper()
	present := map[string]bool{}
	for _, call := range w.all() {
		if call.value == nil && !present[call.key] {
			t.Fatalf("the watch delivered a deletion of %q, which was not there as far as it had told", call.key)
		}
		present[call.key] = call.value != nil
	}
}

func slowHoldsUpNobody(t *trial) {
	a, b := t.open(), t.open()
	slow := t.stuckPrefix(b, "p/")
	quick := []*watcher{t.watchPrefix(a, "p/"), t.watchPrefix(b, "p/"), t.watchKey(b, "p/k")}
	var wrote atomic.Int64
	t.each(2, func(i int) {
		for range 20 {
			t.ok(t.cas([]kv.Client{a, b}[i], "p/k", increment), "CAS")
			wrote.Add(1)
		}
	})
	for _, w := range quick {
		w.untilIs("p/k", strconv.FormatInt(wrote.Load(), 10))
	}
	if n := len(slow.all()); n != 1 {
		t.Fatalf("the callback of a watch was called again while it was running")
	}
	slow.release()
	slow.untilIs("p/k", "40")
}
