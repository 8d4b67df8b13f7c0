package conformance

import (
	"fmt"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
)

func removeCases() []testCase {
	return []testCase{
		{"C3", "deletes", "a callback that returns kv.Remove deletes the key", 0, removeDeletes},
		{"C3", "atomic", "a write in between is not removed unseen", 0, removeIsAtomic},
		{"C3", "created-again", "a removed key can be created again and lives on", 0, removedCreatedAgain},
		{"C3", "absent", "kv.Remove of an absent key is no error and makes nothing", 0, removeAbsent},
		{"C3", "taken-once", "of many that take a key away, exactly one gets it", 0, takenOnce},
		{"C3", "history", "concurrent writing and removing CAS calls are linearizable", needOneStore, historyOf(mixRemoves)},
	}
}

func takeAway(any) (any, bool, error) { return kv.Remove, false, nil }

func removeDeletes(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "v")
	t.put(a, "l", "v")
	w := t.watchPrefix(b, "")
	w.untilIs("l", "v")
	t.ok(t.cas(b, "k", takeAway), "CAS with kv.Remove")
	for _, c := range []kv.Client{a, b} {
		t.wantGet(c, "k", nil)
		t.wantList(c, "", "l")
	}
	w.untilGone("k")
}

func removeIsAtomic(t *trial) {
	a, b := t.open(), t.open()
	for i := range 3 {
		t.put(a, "k", "v")
		theirs := fmt.Sprintf("theirs %d", i)
		last, calls := t.interfered(a, "k", kv.Remove, func() { t.put(b, "k", theirs) })
		t.wantNoticed(last, calls, theirs)
		t.wantGet(b, "k", nil)
	}
	// One that decides by what it sees leaves what it doesn't want to remove.
	t.put(a, "k", "old")
	first := true
	t.ok(t.cas(a, "k", func(in any) (any, bool, error) {
		if first {
			first = false
			t.put(b, "k", "new")
		}
		if in == "old" {
			return kv.Remove, false, nil
		}
		return nil, false, nil
	}), "CAS")
	t.wantGet(b, "k", "new")
}

func removedCreatedAgain(t *trial) {
	a, b := t.open(), t.open()
	for i := range 10 {
		value := fmt.Sprintf("life %d", i)
		t.put(a, "k", value)
		t.wantGet(b, "k", value)
		t.ok(t.cas(b, "k", takeAway), "CAS with kv.Remove")
		t.wantGet(a, "k", nil)
	}
	t.put(b, "k", "last")
	t.wantGet(a, "k", "last")
}

func removeAbsent(t *trial) {
	a, b := t.open(), t.open()
	t.ok(t.cas(a, "k", takeAway), "CAS of an absent key with kv.Remove")
	t.put(a, "k", "v")
	t.delete(b, "k")
	t.ok(t.cas(a, "k", takeAway), "CAS of a deleted key with kv.Remove")
	t.wantGet(b, "k", nil)
	t.wantList(b, "")
}

func takenOnce(t *trial) {
	clients := t.openN(4)
	for range 6 {
		t.put(clients[0], "k", "token")
		var taken atomic.Int64
		t.each(12, func(i int) {
			mine := false
			t.ok(t.cas(clients[i%4], "k", func(in any) (any, bool, error) {
				mine = in != nil
				return kv.Remove, false, nil
			}), "CAS with kv.Remove")
			if mine {
				taken.Add(1)
			}
		})
		if n := taken.Load(); n != 1 {
			t.Fatalf("%d callers took one key away", n)
		}
	}
}
