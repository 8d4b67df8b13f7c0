package conformance

import (
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func atomicityCases() []testCase {
	return []testCase{
		{"C1", "aba-recreated", "a delete and re-create with the same bytes in between is noticed", needOneStore, abaRecreated},
		{"C1", "aba-changed-back", "a change and a change back in between is noticed", needOneStore, abaChangedBack},
		{"C1", "counter", "no increment of a counter is lost among clients and goroutines", 0, counter},
		{"C1", "created-meanwhile", "a key that is created in between is not overwritten unseen", 0, createdMeanwhile},
		{"C1", "deleted-meanwhile", "a key that is deleted in between is not written unseen", 0, deletedMeanwhile},
		{"C1", "changed-meanwhile", "a value that is written in between is not overwritten unseen", 0, changedMeanwhile},
		{"C1", "overtaken-memory", "a client that wrote a key before sees what others wrote since", 0, overtakenMemory},
		{"C1", "little-memory", "what a client remembers, much, little or nothing, changes no result", needOptions, littleMemory},
		{"C1", "chain", "each write rests on the one before, among clients and goroutines", 0, chain},
		{"C1", "one-creator", "of many that create a key if it is absent, exactly one does", 0, oneCreator},
		{"C1", "keys-apart", "CAS of one key leaves its neighbours alone", 0, keysApart},
		{"C1", "history", "concurrent CAS calls are linearizable", needOneStore, historyOf(mixWrites)},
		{"C1", "mixed-history", "concurrent operations of every kind are linearizable", needOneStore, historyOf(mixAll)},
		{"C1", "per-node", "no increment is lost among the clients of one node, and nodes converge", needManyNodes, counterPerNode},
	}
}

// interfered has c write key while another client gets in between: interfere runs
// during the first callback. It returns what the last callback got.
func (t *trial) interfered(c kv.Client, key string, out any, interfere func()) (last any, calls int) {
	t.Helper()
	err := t.cas(c, key, func(in any) (any, bool, error) {
		calls++
		last = in
		if calls == 1 {
			interfere()
		}
		return out, false, nil
	})
	t.ok(err, "CAS of %q", key)
	return last, calls
}

// wantNoticed wants a CAS to have been called again with the value that
// another client left.
func (t *trial) wantNoticed(last any, calls int, want any) {
	t.Helper()
	if calls < 2 {
		t.Fatalf("another client wrote the key during the callback, and it was not called again")
	}
	if last != want {
		t.Fatalf("the last callback got %s, but another client had left %s", show(last), show(want))
	}
}

func abaRecreated(t *trial) {
	a, b := t.open(), t.open()
	for i := range 3 { // the second time with what a may remember of its own write
		key := "k" + strconv.Itoa(i/2)
		t.put(b, key, "same")
		last, calls := t.interfered(a, key, "new", func() {
			t.delete(b, key)
			t.put(b, key, "same")
		})
		t.wantNoticed(last, calls, "same")
		t.wantGet(b, key, "new")
	}
}

func abaChangedBack(t *trial) {
	a, b := t.open(), t.open()
	for range 3 {
		t.put(b, "k", "same")
		last, calls := t.interfered(a, "k", "new", func() {
			t.put(b, "k", "other")
			t.put(b, "k", "same")
		})
		t.wantNoticed(last, calls, "same")
		t.wantGet(b, "k", "new")
	}
}

func createdMeanwhile(t *trial) {
	a, b := t.open(), t.open()
	last, calls := t.interfered(a, "k", "mine", func() { t.put(b, "k", "theirs") })
	t.wantNoticed(last, calls, "theirs")
	t.wantGet(b, "k", "mine")

	t.delete(b, "k")
	last, calls = t.interfered(b, "k", "mine", func() { t.put(a, "k", "theirs") })
	t.wantNoticed(last, calls, "theirs")
}

func deletedMeanwhile(t *trial) {
	a, b := t.open(), t.open()
	for range 3 {
		t.put(a, "k", "v")
		last, calls := t.interfered(a, "k", "new", func() { t.delete(b, "k") })
		t.wantNoticed(last, calls, nil)
		t.wantGet(b, "k", "new")
	}
}

func changedMeanwhile(t *trial) {
	a, b := t.open(), t.open()
	for i := range 3 {
		t.put(a, "k", "v")
		theirs := strconv.Itoa(i)
		last, calls := t.interfered(a, "k", "new", func() { t.put(b, "k", theirs) })
		t.wantNoticed(last, calls, theirs)
		if calls > 10 {
			t.Fatalf("after one conflict the callback ran %d times", calls)
		}
		t.wantGet(b, "k", "new")
	}
}

func overtakenMemory(t *trial) {
	a, b := t.open(), t.open()
	t.put(a, "k", "0")
	for range 20 {
		t.ok(t.cas(b, "k", increment), "CAS")
		t.ok(t.cas(a, "k", increment), "CAS")
	}
	t.wantGet(b, "k", "40")
	t.delete(b, "k")
	t.ok(t.cas(a, "k", increment), "CAS")
	t.wantGet(b, "k", "1")
}

func littleMemory(t *trial) {
	const keys, each = 6, 8
	clients := []kv.Client{
		t.open(),
		t.open(func(o *kv.Options) { o.RememberEntries = -1 }),
		t.open(func(o *kv.Options) { o.RememberEntries = 2 }),
		t.open(func(o *kv.Options) { o.RememberBytes = 5 }),
		t.open(func(o *kv.Options) { o.RememberFor = 1 }),
	}
	t.each(len(clients), func(i int) {
		for n := range keys * each {
			t.ok(t.cas(clients[i], fmt.Sprintf("k%d", n%keys), increment), "CAS")
		}
	})
	for k := range keys {
		t.wantGet(clients[k%len(clients)], fmt.Sprintf("k%d", k), strconv.Itoa(each*len(clients)))
	}
}

func counter(t *trial) {
	const each = 25
	clients := t.openN(4)
	t.each(16, func(i int) {
		for range each {
			t.ok(t.cas(clients[i%4], "k", increment), "CAS")
		}
	})
	for _, c := range clients {
		t.wantGet(c, "k", strconv.Itoa(16*each))
	}
}

// chain has every write name the one that it replaced, which must be the last
// that was carried out.
func chain(t *trial) {
	const writers, each = 9, 20
	clients := t.openN(3)
	replaced := make([]map[string]string, writers)
	t.each(writers, func(w int) {
		replaced[w] = map[string]string{}
		for i := range each {
			mine, saw := fmt.Sprintf("%d.%d", w, i), ""
			t.ok(t.cas(clients[w%3], "k", func(in any) (any, bool, error) {
				saw, _ = in.(string)
				return mine, false, nil
			}), "CAS")
			replaced[w][mine] = saw
		}
	})
	all := map[string]string{}
	for _, r := range replaced {
		maps.Copy(all, r)
	}
	length := 0
	for at, _ := t.get(clients[0], "k").(string); at != ""; at = all[at] {
		if length++; length > writers*each {
			break
		}
	}
	if length != writers*each {
		t.Fatalf("%d writes were carried out, but following what each one replaced gives %d", writers*each, length)
	}
}

func oneCreator(t *trial) {
	clients := t.openN(4)
	for round := range 5 {
		key := fmt.Sprintf("k%d", round)
		var created atomic.Int64
		t.each(16, func(i int) {
			mine := false
			t.ok(t.cas(clients[i%4], key, func(in any) (any, bool, error) {
				if mine = in == nil; mine {
					return strconv.Itoa(i), false, nil
				}
				return nil, false, nil
			}), "CAS")
			if mine {
				created.Add(1)
			}
		})
		if n := created.Load(); n != 1 {
			t.Fatalf("%d callers created %q", n, key)
		}
	}
}

func keysApart(t *trial) {
	a, b := t.open(), t.open()
	keys := []string{"k", "k/x", "k0", "kk", "K"}
	t.each(len(keys), func(i int) {
		for range 10 {
			t.ok(t.cas([]kv.Client{a, b}[i%2], keys[i], increment), "CAS")
		}
	})
	for _, key := range keys {
		t.wantGet(b, key, "10")
	}
}

func counterPerNode(t *trial) {
	const each = 20
	here := t.openN(3)
	there := t.own(t.store.OpenElsewhere(codec.String{}, t.options(nil)))
	t.each(9, func(i int) {
		for range each {
			t.ok(t.cas(here[i%3], "k", increment), "CAS")
		}
	})
	t.wantGet(here[0], "k", strconv.Itoa(9*each))
	t.eventually("the other node has the sum", func() bool { return t.get(there, "k") == strconv.Itoa(9*each) })
}
