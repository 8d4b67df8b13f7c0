package kv_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/polykv/polykv/kv"
)

func TestSkipDeletes(t *testing.T) {
	ctx := t.Context()
	inner := newFake("k", "k2")
	inner.raw.script = []kv.Event{{Type: kv.Delete, Key: "k"}}
	raw, err := kv.Raw(kv.SkipDeletes(inner))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]kv.Client{"client": kv.SkipDeletes(inner), "raw view": raw} {
		var seen []string
		c.WatchKey(ctx, "k", func(value any) bool {
			seen = append(seen, fmt.Sprint(value))
			return true
		})
		c.WatchPrefix(ctx, "k", func(key string, value any) bool {
			seen = append(seen, fmt.Sprint(key, ": ", value))
			return true
		})
		if want := []string{"value of k", "again", "k: value of k", "k2: value of k2"}; !slices.Equal(seen, want) {
			t.Errorf("%s: saw %q, want %q", name, seen, want)
		}
	}
	calls := 0
	raw.WatchKey(ctx, "k", func(any) bool { calls++; return false })
	raw.WatchPrefix(ctx, "k", func(string, any) bool { calls++; return false })
	if calls != 2 {
		t.Errorf("two watches called callbacks that returned false %d times", calls)
	}
}

func TestSkipDeletesForwardsTheRest(t *testing.T) {
	ctx := t.Context()
	inner := newFake("k")
	inner.script = []kv.Event{{Type: kv.Delete, Key: "k"}}
	c := kv.SkipDeletes(inner).(everything)
	var seen []kv.EventType
	if err := c.Watch(ctx, kv.KeyRange("k"), func(e kv.Event) bool {
		seen = append(seen, e.Type)
		return true
	}); err != nil || !slices.Equal(seen, []kv.EventType{kv.Delete}) {
		t.Errorf("Watch saw %v, %v, want the deletion", seen, err)
	}
	for name, call := range keyed {
		inner.took()
		if err := call(ctx, c, "k"); err != nil || len(inner.took()) != 1 {
			t.Errorf("%s = %v, or was not forwarded", name, err)
		}
	}
	if err := c.Close(); err != nil || !slices.Equal(inner.took(), []string{"Close"}) {
		t.Errorf("Close = %v, or was not forwarded", err)
	}
	if _, err := kv.Raw(kv.SkipDeletes(plain{inner})); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("Raw of a client without = %v, want ErrNotSupported", err)
	}
}

// afterNil calls back each time that a watch delivered a deletion.
type afterNil struct {
	kv.Forward
	then func()
}

func (c afterNil) WatchKey(ctx context.Context, key string, f func(any) bool) {
	c.Forward.WatchKey(ctx, key, func(value any) bool {
		more := f(value)
		if value == nil {
			c.then()
		}
		return more
	})
}

func TestSkipDeletesOverTheEngine(t *testing.T) {
	ctx := t.Context()
	r := newRig(t, kv.Options{})
	deletions := 0
	c := kv.SkipDeletes(afterNil{kv.Forward{Client: r.client}, func() {
		deletions++
		r.put(r.client, "k", "2") // not before, or the deletion would be conflated away
	}})
	r.put(c, "k", "1")
	var seen []any
	c.WatchKey(ctx, "k", func(value any) bool {
		seen = append(seen, value)
		return value == "1" && c.Delete(ctx, "k") == nil
	})
	if !slices.Equal(seen, []any{"1", "2"}) || deletions != 1 {
		t.Errorf("saw %v over %d deletions, want 1 and 2 over one", seen, deletions)
	}
}
