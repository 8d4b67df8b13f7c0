package conformance

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/polykv/polykv/kv"
)

func watchStartCases() []testCase {
	return []testCase{
		{"W1", "current-first", "WatchKey begins with the current value", 0, watchBeginsWithCurrent},
		{"W1", "snapshot", "WatchPrefix begins with one call per existing key, sorted", 0, watchPrefixSnapshot},
		{"W1", "absent", "a watch of an absent key calls nothing until it is created", 0, watchAbsent},
		{"W1", "no-gap", "a write at the very start of a watch is not missed", 0, watchHasNoGap},
		{"W1", "prefix-no-gap", "writes at the very start of a prefix watch are not missed", 0, watchPrefixHasNoGap},
		{"W1", "after-return", "a watch that starts after a write returned begins no earlier, on every client", 0, watchNotBehind},
		{"W1", "large-snapshot", "a snapshot of more keys than a page is complete and sorted", 0, watchLargeSnapshot},
		{"W1", "many", "many watches of one key each see it", 0, manyWatches},
	}
}

func watchBeginsWithCurrent(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "v1")
	t.put(a, "kk", "neighbour")
	for _, c := range []kv.Client{a, b} {
		w := t.watchKey(c, "k")
		w.untilIs("k", "v1")
		t.put(a, "k", "v2")
		w.untilIs("k", "v2")
		t.put(a, "k", "v1")
		w.untilIs("k", "v1")
		w.wantExactly("k", "v1", "v2", "v1")
		w.stop()
	}
}

func watchPrefixSnapshot(t *trial) {
	a, b := t.open(), t.open()
	keys := t.fill(a, "p/", 12)
	t.put(a, "p", "outside")
	t.put(a, "q", "outside")
	t.delete(b, keys[3])
	keys = slices.Delete(keys, 3, 4)
	for _, c := range []kv.Client{a, b} {
		w := t.watchPrefix(c, "p/")
		w.until("the snapshot", func(calls []seen) bool { return len(calls) >= len(keys) })
		t.put(a, "p/zzz", "marker")
		w.untilIs("p/zzz", "marker")
		for i, call := range w.all() {
			if i < len(keys) && (call.key != keys[i] || call.value != keys[i]) {
				t.Fatalf("call %d of a prefix watch is %v, want %q", i, call, keys[i])
			}
		}
		if n := len(w.all()); n != len(keys)+1 {
			t.Fatalf("a watch of %d keys and a change was called %d times: %v", len(keys), n, w.all())
		}
		w.stop()
		t.delete(b, "p/zzz")
	}
}

func watchAbsent(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "other", "v")
	for i := range 5 {
		key := fmt.Sprintf("k%d", i)
		watches := []*watcher{t.watchKey(a, key), t.watchKey(b, key), t.watchPrefix(b, key)}
		t.letOthersRun()
		t.put(a, key, "v1")
		for _, w := range watches {
			w.untilIs(key, "v1")
			w.wantExactly(key, "v1")
		}
	}
}

// watchHasNoGap starts watches and makes one write at the same time, many
// times: whatever comes first, the watch ends up with what was written.
func watchHasNoGap(t *trial) {
	a, b := t.open(), t.open()
	for i := range 40 {
		key := fmt.Sprintf("k%d", i)
		t.put(a, key, "old")
		var w *watcher
		t.each(2, func(g int) {
			if g == 0 {
				w = t.watchKey(b, key)
				return
			}
			if i%2 == 0 {
				t.letOthersRun()
			}
			t.put(a, key, "new")
		})
		w.untilIs(key, "new")
		w.stop()
	}
}

// watchPrefixHasNoGap starts a watch amid writers that don't pause, each of which
// makes new keys and changes one: what is missed is not made up for by what follows.
func watchPrefixHasNoGap(t *trial) {
	a, b := t.open(), t.open()
	const writers = 4
	for round := range 10 {
		name := func(g, i int) string { return fmt.Sprintf("%d/%d-%d", round, g, i) }
		var made [writers]int
		var w *watcher
		begun := make(chan struct{})
		t.each(writers+1, func(g int) {
			if g == writers {
				defer close(begun)
				w = t.watchPrefix(b, fmt.Sprintf("%d/", round))
				w.until("anything", func(calls []seen) bool { return len(calls) > 0 })
				return
			}
			for last := false; !last; made[g]++ {
				select {
				case <-begun:
					last = true
				default:
					if made[g] >= 200 { // in virtual time it may begin only when all pause
						time.Sleep(time.Millisecond)
					}
				}
				t.put(a, name(g, made[g]), "v")
				t.put(a, name(g, 0), strconv.Itoa(made[g]))
			}
		})
		for g, n := range made {
			for i := 1; i < n; i++ {
				w.untilIs(name(g, i), "v")
			}
			w.untilIs(name(g, 0), strconv.Itoa(n-1))
		}
		w.stop()
	}
}

func watchNotBehind(t *trial) {
	clients := t.openN(3)
	for i := range 20 {
		value := strconv.Itoa(i)
		t.put(clients[i%3], "k", value)
		w := t.watchKey(clients[(i+1)%3], "k")
		w.until("anything", func(calls []seen) bool { return len(calls) > 0 })
		if got := w.of("k")[0]; got != value {
			t.Fatalf("a watch began with %s after %q had been written", show(got), value)
		}
		w.stop()
	}
	t.delete(clients[0], "k")
	w := t.watchKey(clients[1], "k")
	t.put(clients[2], "k", "again")
	w.untilIs("k", "again")
	w.wantExactly("k", "again")
}

func watchLargeSnapshot(t *trial) {
	c := t.open()
	keys := t.fill(c, "p/", t.many(1203, 60))
	w := t.watchPrefix(t.open(), "p/")
	w.until("every key", func(calls []seen) bool { return len(calls) == len(keys) })
	for i, call := range w.all() {
		if call.key != keys[i] || call.value != keys[i] {
			t.Fatalf("call %d of a prefix watch is %v, want %q", i, call, keys[i])
		}
	}
	late := keys[len(keys)*5/6]
	t.put(c, late, "changed")
	w.untilIs(late, "changed")
}

func manyWatches(t *trial) {
	clients := t.openN(2)
	t.put(clients[0], "k", "0")
	watches := make([]*watcher, 40)
	for i := range watches {
		if i%2 == 0 {
			watches[i] = t.watchKey(clients[i/2%2], "k")
		} else {
			watches[i] = t.watchPrefix(clients[i/2%2], "")
		}
	}
	for range 5 {
		t.ok(t.cas(clients[1], "k", increment), "CAS")
	}
	for _, w := range watches {
		w.untilIs("k", "5")
	}
	t.each(len(watches), func(i int) { watches[i].stop() })
}
