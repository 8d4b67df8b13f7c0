package conformance

import (
	"fmt"
	"strconv"

	"github.com/polykv/polykv/kv"
)

func watchOrderCases() []testCase {
	return []testCase{
		{"W4", "in-order", "states arrive in the order of the writes", 0, watchInOrder},
		{"W4", "no-repeats", "a write of the same bytes is no new state", 0, watchNoRepeats},
		{"W4", "no-double-nil", "a deletion is told once, and only after a state was delivered", 0, watchNoDoubleNil},
		{"W4", "history", "what watches deliver is part of what was written, in order, up to the last state", 0, watchHistory},
		{"W4", "contended-history", "the same while several clients write each key", needOneStore, contendedWatchHistory},
		{"W4", "own-key-only", "a key watch delivers no other key's state", 0, watchOwnKeyOnly},
	}
}

func watchInOrder(t *trial) {
	const writes = 100
	a, b := t.open(), t.open()
	watches := t.watchBoth([]kv.Client{a, b}, "k", "")
	for i := 1; i <= writes; i++ {
		t.put([]kv.Client{a, b}[i/10%2], "k", strconv.Itoa(i))
		if i%4 != 0 { // or else they would see little of it
			watches[i%4].untilIs("k", strconv.Itoa(i))
		}
	}
	for _, w := range watches {
		w.untilIs("k", strconv.Itoa(writes))
		last := 0
		for _, value := range w.of("k") {
			n := number(value)
			if n <= last {
				t.Fatalf("a watch delivered %d after %d", n, last)
			}
			last = n
		}
	}
}

func watchNoRepeats(t *trial) {
	a, b := t.open(), t.open()
	watches := []*watcher{t.watchKey(b, "k"), t.watchPrefix(a, "k")}
	for _, value := range []string{"v1", "v1", "v1", "v2", "v2", "v1"} {
		t.put(a, "k", value)
		for _, w := range watches {
			w.untilIs("k", value)
		}
		t.put(b, "k", value)
	}
	t.put(b, "k", "marker")
	for _, w := range watches {
		w.untilIs("k", "marker")
		w.wantExactly("k", "v1", "v2", "v1", "marker")
	}
}

func watchNoDoubleNil(t *trial) {
	a, b := t.open(), t.open()
	watches := []*watcher{t.watchKey(b, "k"), t.watchPrefix(b, "")}
	t.delete(a, "k")
	t.put(a, "k", "v")
	for _, w := range watches {
		w.untilIs("k", "v")
	}
	t.delete(a, "k")
	t.delete(b, "k")
	t.ok(t.cas(a, "k", takeAway), "CAS with kv.Remove")
	for _, w := range watches {
		w.untilGone("k")
	}
	t.delete(b, "k")
	t.put(b, "k", "marker")
	want := []any{"v", nil, "marker"}
	if t.features.HidesDeletes {
		want = []any{"v", "marker"}
	}
	for _, w := range watches {
		w.untilIs("k", "marker")
		w.wantExactly("k", want...)
	}
}

func watchOwnKeyOnly(t *trial) {
	a, b := t.open(), t.open()
	w := t.watchKey(b, "k")
	for _, key := range []string{"k/child", "kk", "K", "j", "k "} {
		t.put(a, key, "of "+key)
		t.delete(a, key)
		t.put(a, key, "of "+key)
	}
	t.put(a, "k", "mine")
	w.untilIs("k", "mine")
	t.delete(a, "kk")
	t.put(a, "k", "marker")
	w.untilIs("k", "marker")
	w.wantExactly("k", "mine", "marker")
}

// watchHistory has one writer per key write, delete and create again, on
// different clients, while watches of both kinds come and go.
func watchHistory(t *trial) {
	const keys, writes = 4, 40
	clients := t.openN(3)
	watches := t.watchBoth(clients, "k0", "k")
	ledgers := make([]ledger, keys)
	t.each(keys+1, func(g int) {
		if g == keys { // late watches
			for range 3 {
				w := t.watchPrefix(clients[0], "k")
				w.until("anything", func(calls []seen) bool { return len(calls) > 0 })
				watches = append(watches, w)
			}
			return
		}
		key := fmt.Sprintf("k%d", g)
		for i := range writes {
			c := clients[(g+i)%len(clients)]
			switch {
			case i%5 == 3 && g%2 == 0:
				t.delete(c, key)
				ledgers[g].add(nil)
			case i%5 == 3:
				t.ok(t.cas(c, key, takeAway), "CAS with kv.Remove")
				ledgers[g].add(nil)
			default:
				value := fmt.Sprintf("%d.%d", g, i)
				t.put(c, key, value)
				ledgers[g].add(value)
			}
		}
	})
	t.checkWatches(watches, clients[1], ledgers)
}

// checkWatches lets every watch catch up with the last states of the keys
// "k0", "k1" and so on, with a deletion at the end, and checks what it
// delivered.
func (t *trial) checkWatches(watches []*watcher, c kv.Client, ledgers []ledger) {
	t.Helper()
	for g := range ledgers {
		key := fmt.Sprintf("k%d", g)
		t.put(c, key, "last")
		ledgers[g].add("last")
	}
	for _, w := range watches {
		for g := range ledgers {
			if key := fmt.Sprintf("k%d", g); w.follows(key) {
				w.untilIs(key, "last")
			}
		}
	}
	t.delete(c, "k0")
	ledgers[0].add(nil)
	for _, w := range watches {
		if w.follows("k0") {
			w.untilGone("k0")
		}
		for g := range ledgers {
			t.checkOrder(w, fmt.Sprintf("k%d", g), ledgers[g])
		}
	}
}

// contendedWatchHistory has several clients write each key. Each write tells
// which one it replaced, which gives the order.
func contendedWatchHistory(t *trial) {
	const keys, writers, writes = 3, 6, 15
	clients := t.openN(3)
	watches := t.watchBoth(clients, "k0", "k")
	chains := make([]chainOf, keys)
	t.each(writers, func(g int) {
		for i := range writes {
			k := (g + i) % keys
			mine, saw := fmt.Sprintf("%d.%d", g, i), ""
			t.ok(t.cas(clients[g%3], fmt.Sprintf("k%d", k), func(in any) (any, bool, error) {
				saw, _ = in.(string)
				return mine, false, nil
			}), "CAS")
			chains[k].add(saw, mine)
		}
	})
	ledgers := make([]ledger, keys)
	for k := range chains {
		ledgers[k] = chains[k].ledger(t)
	}
	t.checkWatches(watches, clients[2], ledgers)
}
