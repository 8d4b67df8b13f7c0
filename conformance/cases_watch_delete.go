package conformance

import (
	"fmt"

	"github.com/polykv/polykv/kv"
)

func watchDeleteCases() []testCase {
	return []testCase{
		{"W3", "nil", "a deletion is a call with nil, by Delete or by Remove", needDeletes, deletionIsNil},
		{"W3", "prefix", "a prefix watch tells which key was deleted", needDeletes, deletionNamesKey},
		{"W3", "created-again", "a key that is created again is delivered again", 0, createdAgainIsDelivered},
		{"W3", "all-clients", "every watch on every client sees a deletion", needDeletes, deletionEverywhere},
		{"W3", "skip-deletes", "kv.SkipDeletes hides deletions and nothing else", 0, skipDeletesHides},
	}
}

func deletionIsNil(t *trial) {
	a, b := t.open(), t.open()
	w := t.watchKey(b, "k")
	for i := range 4 {
		t.put(a, "k", "v")
		w.untilIs("k", "v")
		if i%2 == 0 {
			t.delete(a, "k")
		} else {
			t.ok(t.cas(a, "k", takeAway), "CAS with kv.Remove")
		}
		w.until("a second state", func(calls []seen) bool { return len(calls) == 2*i+2 })
		if got := w.all()[2*i+1].value; got != nil {
			t.Fatalf("a deletion was delivered as %s, want nil", show(got))
		}
	}
}

func deletionNamesKey(t *trial) {
	a, b := t.open(), t.open()
	keys := t.fill(a, "p/", 5)
	w := t.watchPrefix(b, "p/")
	w.untilIs(keys[4], keys[4])
	t.delete(a, keys[2])
	w.until("a sixth call", func(calls []seen) bool { return len(calls) == 6 })
	if got := w.all()[5]; got.key != keys[2] || got.value != nil {
		t.Fatalf("the deletion of %q was delivered as %v", keys[2], got)
	}
}

func createdAgainIsDelivered(t *trial) {
	a, b := t.open(), t.open()
	watches := []*watcher{t.watchKey(b, "k"), t.watchPrefix(a, "k")}
	for i := range 5 {
		value := fmt.Sprintf("life %d", i)
		t.put(a, "k", value)
		for _, w := range watches {
			w.untilIs("k", value)
		}
		t.delete(b, "k")
		for _, w := range watches {
			w.untilGone("k")
		}
	}
}

func deletionEverywhere(t *trial) {
	clients := t.openN(3)
	t.put(clients[0], "k", "v")
	watches := t.watchBoth(clients, "k", "")
	for _, w := range watches {
		w.untilIs("k", "v")
	}
	t.delete(clients[1], "k")
	for _, w := range watches {
		w.untilIs("k", nil)
		w.wantExactly("k", "v", nil)
	}
}

func skipDeletesHides(t *trial) {
	a, b := t.open(), t.open()
	if !t.features.HidesDeletes {
		b = t.own(kv.SkipDeletes(b), nil)
	}
	t.put(a, "k", "v1")
	t.put(a, "l", "v1")
	watches := []*watcher{t.watchKey(b, "k"), t.watchPrefix(b, "")}
	for _, w := range watches {
		w.untilIs("k", "v1")
	}
	t.delete(a, "k")
	t.put(a, "l", "v2")
	watches[1].untilIs("l", "v2")
	t.letOthersRun()
	t.put(a, "k", "v2")
	t.delete(b, "k")
	t.put(b, "l", "v3")
	watches[1].untilIs("l", "v3")
	t.letOthersRun()
	t.put(b, "k", "marker")
	for _, w := range watches {
		w.untilIs("k", "marker")
		for _, value := range w.of("k") {
			if value == nil {
				t.Fatalf("a client that hides deletions delivered %s", showAll(w.of("k")))
			}
		}
	}
	t.wantGet(b, "k", "marker")
	t.delete(b, "l")
	t.wantGet(b, "l", nil)
}
