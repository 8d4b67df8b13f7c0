package conformance

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
)

func listCases() []testCase {
	return []testCase{
		{"L1", "sorted", "List returns full keys in ascending order of bytes", 0, listSorted},
		{"L1", "deleted-never", "List omits what was deleted, by Delete or by Remove", 0, listOmitsDeleted},
		{"L1", "linearizable", "List sees what was created or deleted before it started, on every client", 0, listLinearizable},
		{"L1", "pages", "a List of several pages is complete", needOptions, listPages},
		{"L1", "thousands", "a List of more keys than a default page is complete", 0, listThousands},
		{"L1", "compacted", "a List whose moment the store forgets between two pages starts again, and is complete", needLine | needOptions | needCompact, listCompacted},
		{"L1", "among-changes", "a List neither misses nor repeats a key while it is written and others come and go", 0, listAmongChanges},
		{"L1", "own-slice", "the returned slice is the caller's", 0, listOwnSlice},
	}
}

// fill writes n keys "prefix" + number, in no order, and returns them sorted.
func (t *trial) fill(c kv.Client, prefix string, n int) []string {
	t.Helper()
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s%05d", prefix, i)
	}
	const writers = 16
	t.each(writers, func(w int) {
		for i := n - 1 - w; i >= 0; i -= writers {
			t.put(c, keys[i], keys[i])
		}
	})
	return keys
}

func listSorted(t *trial) {
	a, b := t.open(), t.open()
	keys := []string{"z", "m/2", "m/10", "m", "M", "a~", "a", "a b", "é", "0"}
	for i, key := range keys {
		t.put([]kv.Client{a, b}[i%2], key, "v")
	}
	slices.Sort(keys)
	t.wantList(a, "", keys...)
	t.wantList(b, "", keys...)
	t.wantList(a, "m/", "m/10", "m/2")
}

func listOmitsDeleted(t *trial) {
	a, b := t.open(), t.open()
	keys := t.fill(a, "k/", 6)
	t.delete(a, keys[0])
	t.ok(t.cas(b, keys[3], func(any) (any, bool, error) { return kv.Remove, false, nil }), "CAS with kv.Remove")
	for _, c := range []kv.Client{a, b} {
		t.wantList(c, "", keys[1], keys[2], keys[4], keys[5])
	}
	t.put(b, keys[0], "again")
	t.wantList(a, "", keys[0], keys[1], keys[2], keys[4], keys[5])
}

func listLinearizable(t *trial) {
	a, b := t.open(), t.open()
	for i := range 20 {
		key := fmt.Sprintf("k%02d", i)
		t.put(a, key, "v")
		t.wantList(b, "", key)
		t.wantList(a, "", key)
		t.delete(b, key)
		t.wantList(a, "")
		t.wantList(b, "k")
	}
}

func listPages(t *trial) {
	c := t.open(func(o *kv.Options) { o.ScanPage = 7 })
	keys := t.fill(t.open(), "p/", 28) // a multiple, whose last page is full
	t.wantList(c, "p/", keys...)
	t.put(c, "p", "before")
	t.put(c, "p0", "after")
	t.wantList(c, "p/", keys...)
	t.wantList(c, "", append(append([]string{"p"}, keys...), "p0")...)
	t.delete(c, keys[27])
	t.wantList(c, "p/", keys[:27]...)
}

func listThousands(t *trial) {
	n := t.many(1203, 60)
	c := t.open(func(o *kv.Options) {
		o.ScanPage = n - 3 // there is a page that it doesn't fit in
	})
	keys := t.fill(c, "k/", n)
	t.wantList(c, "", keys...)
	t.wantList(t.open(), "k/0002", keys[20:30]...)
}

// listCompacted lists again and again, while after every tenth request the store
// is made to forget. So each listing, of seven pages, is overtaken once at most.
func listCompacted(t *trial) {
	c, line := t.openLine(func(o *kv.Options) { o.ScanPage = 3 })
	other := t.open()
	keys := t.fill(other, "p/", 20)
	var done atomic.Bool
	forgetting := t.start(func() {
		defer done.Store(true)
		for range 5 {
			next := line.Attempts() + 10
			t.eventually("listings go on", func() bool { return line.Attempts() >= next })
			t.put(other, "other", "passing")
			t.disrupt("Compact", t.store.Compact)
		}
	})
	for !done.Load() {
		t.wantList(c, "p/", keys...)
	}
	forgetting.wait("the store is made to forget")
	t.wantList(c, "p/", keys...)
}

func listAmongChanges(t *trial) {
	stayers := t.fill(t.open(), "k/", 25)
	var done atomic.Bool
	lists, changers := t.openN(2, func(o *kv.Options) { o.ScanPage = 5 }), t.openN(2)
	t.each(4, func(i int) {
		if i < 2 {
			c := changers[i]
			for n := 0; !done.Load(); n++ {
				key := fmt.Sprintf("k/%05d/%d", n%25, i)
				t.put(c, key, "passing")
				t.put(c, stayers[n%3+20*i], key)
				t.delete(c, key)
			}
			return
		}
		if i == 2 {
			defer done.Store(true)
		}
		for range 40 {
			keys := t.list(lists[i-2], "k/")
			if !slices.IsSorted(keys) || len(slices.Compact(slices.Clone(keys))) != len(keys) {
				t.Fatalf("List returned keys out of order or twice: %q", keys)
			}
			for _, key := range stayers {
				if _, found := slices.BinarySearch(keys, key); !found {
					t.Fatalf("List missed %q, which was there all the time", key)
				}
			}
		}
	})
}

func listOwnSlice(t *trial) {
	c := t.open()
	keys := t.fill(c, "k/", 3)
	mine := t.list(c, "")
	clear(mine)
	t.wantList(c, "", keys...)
}
