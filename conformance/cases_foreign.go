package conformance

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
)

func foreignKeyCases() []testCase {
	return []testCase{
		{"K3", "reserved-refused", "a key with a segment .polykv gets ErrInvalidKey; one that only looks like it works", 0, reservedRefused},
		{"K3", "reserved-hidden", "keys with a segment .polykv are hidden from List, Entries and watches", needRaw, reservedHidden},
		{"K3", "foreign-skipped", "keys that break rule K1 are skipped by List, Entries and watches", needPlant, foreignSkipped},
		{"K3", "foreign-counted", "keys that break rule K1 are reported to the Observer", needPlant | needOptions, foreignCounted},
		{"K3", "prefix-separates", "a Prefix sees its own keys under their bare names, and no others", 0, prefixSeparates},
		{"K3", "prefix-composes", "bare and composed keys both obey rule K1", 0, prefixComposes},
		{"K3", "prefix-valid", "a Prefix is empty or ends in a slash", 0, prefixValid},
	}
}

func reservedRefused(t *trial) {
	c := t.open()
	for _, key := range []string{".polykv", ".polykv/x", "a/.polykv", "a/.polykv/b", "x.polykv/.polykv/y"} {
		refused(t, c, key)
	}
	near := []string{".polykvx", "a/x.polykv/b", "polykv/x"}
	for _, key := range near {
		t.put(c, key, "fine")
		t.wantGet(c, key, "fine")
	}
	t.wantList(c, "", near...)
}

func reservedHidden(t *trial) {
	a, b := t.open(), t.open()
	raw, err := kv.Raw(a)
	t.ok(err, "Raw")
	w := t.watchPrefix(b, "")
	t.put(a, "a", "visible")
	w.untilIs("a", "visible")
	for _, key := range []string{".polykv/x", "a/.polykv/y", "a/.polykv"} {
		t.put(raw, key, []byte("hidden"))
	}
	late := t.watchPrefix(b, "")
	t.put(a, "z", "marker")

	t.wantList(b, "", "a", "z")
	t.wantList(b, ".polykv/")
	t.wantList(b, "a/.poly")
	for _, w := range []*watcher{w, late} {
		w.untilIs("z", "marker")
		for _, call := range w.all() {
			if strings.Contains(call.key, kv.ReservedSegment) {
				t.Fatalf("WatchPrefix delivered %v", call)
			}
		}
	}
	for entry, err := range kv.Entries(t.ctx(), b, "") {
		t.ok(err, "Entries")
		if strings.Contains(entry.Key, kv.ReservedSegment) {
			t.Fatalf("Entries returned %q", entry.Key)
		}
	}
	t.wantGet(raw, ".polykv/x", []byte("hidden"))
}

// foreignKeys are keys that another tool may have made: a folder in Consul's
// user interface, control characters.
func foreignKeys() []string { return []string{"folder/", "a//b", "z/./y", "bell\a"} }

func plantForeign(t *trial) {
	t.Helper()
	for _, key := range foreignKeys() {
		t.plant(key, []byte("foreign"))
	}
}

func foreignSkipped(t *trial) {
	c := t.open()
	early := t.watchPrefix(c, "")
	t.put(c, "a", "mine")
	early.untilIs("a", "mine")
	plantForeign(t)
	late := t.watchPrefix(t.open(), "")
	t.put(c, "folder/x", "mine")
	t.put(c, "zz", "marker")

	t.wantList(c, "", "a", "folder/x", "zz")
	t.wantList(c, "folder/", "folder/x")
	for _, w := range []*watcher{early, late} {
		w.untilIs("zz", "marker")
		w.untilIs("folder/x", "mine")
		for _, call := range w.all() {
			if kv.CheckKey(call.key) != nil {
				t.Fatalf("WatchPrefix delivered the foreign key %q", call.key)
			}
		}
	}
	for entry, err := range kv.Entries(t.ctx(), c, "") {
		t.ok(err, "Entries")
		if kv.CheckKey(entry.Key) != nil {
			t.Fatalf("Entries returned the foreign key %q", entry.Key)
		}
	}
}

// skipCounter counts what a client skipped.
type skipCounter struct {
	kv.NopObserver
	n atomic.Int64
}

func (s *skipCounter) Skipped(context.Context, string) { s.n.Add(1) }

func foreignCounted(t *trial) {
	var skipped skipCounter
	c := t.open(func(o *kv.Options) { o.Observer = &skipped })
	plantForeign(t)
	t.wantList(c, "")
	if got, want := int(skipped.n.Load()), len(foreignKeys()); got != want {
		t.Fatalf("a List skipped %d keys and reported %d of them", want, got)
	}
}

// prefixed puts a Prefix over a client of its own.
func (t *trial) prefixed(prefix string) kv.Client {
	t.Helper()
	return t.own(kv.Prefix(t.open(), prefix))
}

func prefixSeparates(t *trial) {
	whole, ns, other := t.open(), t.prefixed("ns/"), t.prefixed("n/")
	t.put(whole, "ns", "outside")
	t.put(whole, "nsx/k", "outside")
	t.put(other, "k", "other")
	w := t.watchPrefix(ns, "")
	t.put(ns, "k", "mine")
	t.put(ns, "sub/k", "mine too")

	t.wantGet(whole, "ns/k", "mine")
	t.wantGet(ns, "k", "mine")
	t.wantGet(other, "k", "other")
	t.wantList(ns, "", "k", "sub/k")
	t.wantList(ns, "s", "sub/k")
	t.wantList(whole, "ns", "ns", "ns/k", "ns/sub/k", "nsx/k")
	w.untilIs("sub/k", "mine too")
	one := t.watchKey(ns, "k")
	one.untilIs("k", "mine")
	t.delete(ns, "k")
	t.wantGet(whole, "ns/k", nil)
	t.wantGet(other, "k", "other")
	w.untilGone("k")
	for _, call := range w.all() {
		if call.key != "k" && call.key != "sub/k" {
			t.Fatalf("a watch through the Prefix delivered %v", call)
		}
	}
}

func prefixComposes(t *trial) {
	ns := t.prefixed("ns/")
	for _, key := range []string{"", "/k", "../k", ".", "k/", "a//b", ".polykv/x"} {
		refused(t, ns, key)
	}
	longest := kv.MaxKeyLen - len(t.store.Prefix) - len("ns/")
	key := strings.Repeat("k", longest)
	t.put(ns, key, "long")
	t.wantGet(ns, key, "long")
	refused(t, ns, key+"k")
	deep := t.own(kv.Prefix(t.prefixed("ns/"), "deep/"))
	t.put(deep, "k", "nested")
	t.wantGet(ns, "deep/k", "nested")
}

func prefixValid(t *trial) {
	c := t.open()
	for _, prefix := range []string{"ns", "/ns/", "ns//", "a/../b/", "/", ".polykv/", "a\x00/"} {
		if _, err := kv.Prefix(c, prefix); err == nil {
			t.Fatalf("kv.Prefix accepted %q", prefix)
		} else {
			t.wantErr(err, "kv.Prefix of "+show(prefix), kv.ErrInvalidKey)
		}
	}
	same, err := kv.Prefix(c, "")
	t.ok(err, "kv.Prefix of the empty prefix")
	t.put(same, "k", "v")
	t.wantGet(c, "k", "v")
}
