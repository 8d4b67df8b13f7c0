package conformance

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strconv"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

func typedCases() []testCase {
	return []testCase{
		{"Typed", "get-update", "Get and Update of a typed view: Put, Keep and Remove", 0, typedGetUpdate},
		{"Typed", "counter", "Update is CAS: no increment is lost", 0, typedCounter},
		{"Typed", "errors", "Update returns the callback's error, and retries one made by Retry", needOptions, typedErrors},
		{"Typed", "wrong-type", "a value of another type is an error", 0, typedWrongType},
		{"Typed", "watch", "Watch yields what exists, Synced, then changes and deletions", needWatch, typedWatch},
		{"Typed", "watch-errors", "Watch ends with an error that says why, and goes on after one that is undecodable", needWatch, typedWatchErrors},
	}
}

func typedGetUpdate(t *trial) {
	a, b := kv.Typed[*doc](t.openWith(docs())), kv.Typed[*doc](t.openWith(docs()))
	value, exists, err := a.Get(t.ctx(), "k")
	t.ok(err, "Get")
	if exists || value != nil {
		t.Fatalf("Get of an absent key returned %v, %v", value, exists)
	}
	put := func(old *doc, exists bool) (*doc, kv.Action, error) {
		if exists {
			return &doc{Text: old.Text + "+"}, kv.Put, nil
		}
		return &doc{Text: "first"}, kv.Put, nil
	}
	for _, want := range []string{"first", "first+", "first++"} {
		t.ok(a.Update(t.ctx(), "k", put), "Update")
		value, exists, err := b.Get(t.ctx(), "k")
		if t.ok(err, "Get"); !exists || value.Text != want {
			t.Fatalf("Get returned %v, %v, want %q", value, exists, want)
		}
	}
	t.ok(b.Update(t.ctx(), "k", func(*doc, bool) (*doc, kv.Action, error) { return newDoc(), kv.Keep, nil }), "Update with Keep")
	if value, _, err := a.Get(t.ctx(), "k"); err != nil || value.Text != "first++" {
		t.Fatalf("after an Update with Keep, Get returned %v, %v", value, err)
	}
	if keys, err := b.List(t.ctx(), ""); err != nil || !slices.Equal(keys, []string{"k"}) {
		t.Fatalf("List returned %q, %v", keys, err)
	}
	t.ok(b.Update(t.ctx(), "k", func(*doc, bool) (*doc, kv.Action, error) { return nil, kv.Remove, nil }), "Update with Remove")
	if _, exists, err := a.Get(t.ctx(), "k"); err != nil || exists {
		t.Fatalf("after an Update with Remove, Get returned exists %v, %v", exists, err)
	}
	t.ok(a.Delete(t.ctx(), "k"), "Delete")
	if err := a.Update(t.ctx(), "k", func(*doc, bool) (*doc, kv.Action, error) { return nil, kv.Put, nil }); err == nil {
		t.Fatalf("Update with Put of a nil pointer succeeded")
	}
	t.wantList(a.Client(), "")
}

func typedCounter(t *trial) {
	clients := t.openN(3)
	t.each(9, func(i int) {
		typed := kv.Typed[string](clients[i%3])
		for range 10 {
			t.ok(typed.Update(t.ctx(), "k", func(old string, exists bool) (string, kv.Action, error) {
				if !exists {
					return "1", kv.Put, nil
				}
				return strconv.Itoa(number(old) + 1), kv.Put, nil
			}), "Update")
		}
	})
	value, _, err := kv.Typed[string](clients[0]).Get(t.ctx(), "k")
	if t.ok(err, "Get"); value != "90" {
		t.Fatalf("the counter is %s, want 90", value)
	}
}

func typedErrors(t *trial) {
	c := t.open(quick, attempts(3))
	typed := kv.Typed[string](c)
	calls := 0
	err := typed.Update(t.ctx(), "k", func(string, bool) (string, kv.Action, error) {
		calls++
		return "no", kv.Put, errPicky
	})
	if t.wantErr(err, "Update whose callback fails", errPicky); calls > 2 {
		t.Fatalf("an error without Retry had the callback called %d times", calls)
	}
	calls = 0
	err = typed.Update(t.ctx(), "k", func(string, bool) (string, kv.Action, error) {
		calls++
		return "no", kv.Put, kv.Retry(errPicky)
	})
	if t.wantErr(err, "Update whose callback asks for a retry", errPicky); calls < 3 {
		t.Fatalf("an error with Retry had the callback called %d times, want 3", calls)
	}
	calls = 0
	t.ok(typed.Update(t.ctx(), "k", func(string, bool) (string, kv.Action, error) {
		if calls++; calls < 2 {
			return "no", kv.Put, kv.Retry(errPicky)
		}
		return "yes", kv.Put, nil
	}), "Update whose callback succeeds in the end")
	t.wantGet(c, "k", "yes")
}

func typedWrongType(t *trial) {
	c := t.open()
	t.put(c, "k", "a string")
	typed := kv.Typed[int](c)
	var ours *kv.Error
	if _, _, err := typed.Get(t.ctx(), "k"); !errors.As(err, &ours) {
		t.Fatalf("Get of a string as an int returned %v", err)
	}
	called := false
	err := typed.Update(t.ctx(), "k", func(int, bool) (int, kv.Action, error) {
		called = true
		return 1, kv.Put, nil
	})
	if err == nil || called {
		t.Fatalf("Update of a string as an int returned %v and called its callback: %v", err, called)
	}
	t.wantErr(typed.Update(t.ctx(), "absent", func(int, bool) (int, kv.Action, error) { return 1, kv.Put, nil }),
		"Update with a value that the codec can't encode", codec.ErrType)
	t.wantGet(c, "k", "a string")
	t.wantList(c, "", "k")
}

func typedWatch(t *trial) {
	c, writer := t.open(), t.open()
	keys := t.fill(writer, "p/", 3)
	type step struct {
		kind       kv.EventType
		key, value string
	}
	script := []step{
		{kv.Put, keys[0], keys[0]},
		{kv.Put, keys[1], keys[1]},
		{kv.Put, keys[2], keys[2]},
		{kind: kv.Synced},
		{kv.Put, keys[1], "changed"},
		{kind: kv.Delete, key: keys[1]},
		{kv.Put, keys[1], "again"},
	}
	after := map[int]func(){
		4: func() { t.put(writer, keys[1], "changed") },
		5: func() { t.delete(writer, keys[1]) },
		6: func() { t.put(writer, keys[1], "again") },
	}
	var got []step
	t.returns("a loop over a typed watch that is left", func() {
		for event, err := range kv.Typed[string](c).Watch(t.ctx(), kv.PrefixRange("p/")) {
			t.ok(err, "Watch")
			got = append(got, step{event.Type, event.Key, event.Value})
			if len(got) == len(script) {
				break
			}
			if next := after[len(got)]; next != nil {
				next()
			}
		}
	})
	if !reflect.DeepEqual(got, script) {
		t.Fatalf("a typed watch yielded %v, want %v", got, script)
	}
}

func typedWatchErrors(t *trial) {
	c, writer := t.openWith(picky{}), t.open()
	t.put(writer, "k", "?garbage")
	ctx, cancel := context.WithCancel(t.Context())
	var last error
	undecodable := false
	t.returns("a loop over a typed watch whose ctx ends", func() {
		for event, err := range kv.Typed[string](c).Watch(ctx, kv.KeyRange("k")) {
			last = err
			switch event.Type {
			case kv.Undecodable:
				undecodable = errors.Is(err, errPicky) && event.Key == "k"
				t.put(writer, "k", "fine")
			case kv.Put:
				cancel()
			}
		}
	})
	cancel()
	if !undecodable {
		t.Fatalf("a typed watch did not tell of a value that can't be decoded")
	}
	t.wantErr(last, "the end of a typed watch", context.Canceled)
	for _, err := range kv.Typed[string](c).Watch(t.ctx(), kv.KeyRange("a//b")) {
		t.wantErr(err, "a typed watch of an invalid key", kv.ErrInvalidKey)
	}
	t.ok(c.Close(), "Close")
	n := 0
	for _, err := range kv.Typed[string](c).Watch(t.ctx(), kv.KeyRange("k")) {
		n++
		t.wantErr(err, "a typed watch of a closed client", kv.ErrClosed)
	}
	if n != 1 {
		t.Fatalf("a typed watch of a closed client yielded %d items, want 1", n)
	}
}
