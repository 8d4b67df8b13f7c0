package conformance

import (
	"reflect"
	"slices"

	"github.com/polykv/polykv/kv"
)

func sharedValueCases() []testCase {
	return []testCase{
		{"G2", "private-copy", "what a CAS callback does to its value changes nothing unless it is returned", 0, casValueIsPrivate},
		{"G2", "not-kept", "what a caller does to a value after it was written changes nothing", 0, writtenValueIsNotKept},
		{"G2", "not-passed-on", "callers that wait together share no memory", 0, groupSharesNothing},
		{"G2", "callback-against-readers", "a CAS callback changes no value that Get or a watch returned before", 0, readersKeepTheirs},
	}
}

func newDoc() *doc { return &doc{Text: "text", Tags: []string{"one", "two"}} }

func (t *trial) wantDoc(c kv.Client, key string, want *doc) {
	t.Helper()
	if got := t.get(c, key); !reflect.DeepEqual(got, any(want)) {
		t.Fatalf("Get of %q returned %s, want %s", key, show(got), show(want))
	}
}

func casValueIsPrivate(t *trial) {
	c, other := t.openWith(docs()), t.openWith(docs())
	t.put(c, "k", newDoc())
	decline := func(in any) (any, bool, error) {
		spoil(in)
		return nil, false, nil
	}
	refuse := func(in any) (any, bool, error) {
		spoil(in)
		return nil, false, errPicky
	}
	for range 2 { // the second time on what the first one may have left behind
		t.ok(t.cas(c, "k", decline), "a CAS that declines")
		t.wantErr(t.cas(c, "k", refuse), "a CAS that fails", errPicky)
		for _, reader := range []kv.Client{c, other} {
			t.wantDoc(reader, "k", newDoc())
		}
		t.ok(t.cas(c, "k", func(in any) (any, bool, error) {
			if !reflect.DeepEqual(in, any(newDoc())) {
				t.Errorf("a callback got %s, which another one had spoiled", show(in))
			}
			return nil, false, nil
		}), "CAS")
	}
}

func writtenValueIsNotKept(t *trial) {
	c, other := t.openWith(docs()), t.openWith(docs())
	mine := newDoc()
	t.put(c, "k", mine)
	w := t.watchKey(c, "k")
	w.until("the value", func(calls []seen) bool { return len(calls) == 1 })
	spoil(mine)
	for _, reader := range []kv.Client{c, other} {
		t.wantDoc(reader, "k", newDoc())
	}
	if got := w.of("k")[0]; !reflect.DeepEqual(got, any(newDoc())) {
		t.Fatalf("a watch's value became %s when the writer changed its own", show(got))
	}
	t.ok(t.cas(c, "k", func(in any) (any, bool, error) {
		if !reflect.DeepEqual(in, any(newDoc())) {
			t.Errorf("a callback got %s, which the writer had spoiled", show(in))
		}
		return nil, false, nil
	}), "CAS")
}

// groupSharesNothing has callers of one client add a tag each while they spoil
// what they were given and what they returned before.
func groupSharesNothing(t *trial) {
	const callers = 16
	c := t.openWith(docs())
	t.put(c, "k", &doc{Text: "text"})
	t.each(callers, func(i int) {
		var last *doc
		t.ok(t.cas(c, "k", func(in any) (any, bool, error) {
			spoil(last)
			old, ok := in.(*doc)
			if !ok || old.Text != "text" || slices.Contains(old.Tags, "spoiled") {
				t.Errorf("a callback got %s, which another caller had spoiled", show(in))
				return nil, false, nil
			}
			last = &doc{Text: old.Text, Tags: append(slices.Clone(old.Tags), string(rune('a'+i)))}
			spoil(old)
			return last, false, nil
		}), "CAS")
		spoil(last)
	})
	got, ok := t.get(c, "k").(*doc)
	if !ok || len(got.Tags) != callers || slices.Contains(got.Tags, "spoiled") {
		t.Fatalf("after %d callers added a tag each the value is %s", callers, show(t.get(c, "k")))
	}
}

func readersKeepTheirs(t *trial) {
	c := t.openWith(docs())
	t.put(c, "k", newDoc())
	got := t.get(c, "k")
	w := t.watchKey(c, "k")
	w.until("the value", func(calls []seen) bool { return len(calls) == 1 })
	t.ok(t.cas(c, "k", func(in any) (any, bool, error) {
		spoil(in)
		return in, false, nil
	}), "CAS")
	w.until("the change", func(calls []seen) bool { return len(calls) == 2 })
	for _, value := range []any{got, w.of("k")[0]} {
		if !reflect.DeepEqual(value, any(newDoc())) {
			t.Fatalf("a value that was read before became %s", show(value))
		}
	}
}
