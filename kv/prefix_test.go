package kv_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/polykv/polykv/kv"
)

func mustPrefix(t *testing.T, c kv.Client, prefix string) kv.Client {
	t.Helper()
	p, err := kv.Prefix(c, prefix)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// everything is a client's whole method set.
type everything interface {
	kv.Client
	kv.Watcher
	kv.EntryReader
	kv.Pinger
	kv.GuardedClient
	kv.VersionedClient
	kv.RawViewer
	kv.Limiter
}

func ignore(any) (any, bool, error) { return nil, false, nil }

// keyed calls every method that takes a key.
var keyed = map[string]func(ctx context.Context, c everything, key string, guards ...kv.Guard) error{
	"Get": func(ctx context.Context, c everything, key string, _ ...kv.Guard) error {
		_, err := c.Get(ctx, key)
		return err
	},
	"Delete": func(ctx context.Context, c everything, key string, _ ...kv.Guard) error { return c.Delete(ctx, key) },
	"CAS": func(ctx context.Context, c everything, key string, _ ...kv.Guard) error {
		return c.CAS(ctx, key, ignore)
	},
	"Watch": func(ctx context.Context, c everything, key string, _ ...kv.Guard) error {
		return c.Watch(ctx, kv.KeyRange(key), func(kv.Event) bool { return false })
	},
	"GetGuarded": func(ctx context.Context, c everything, key string, guards ...kv.Guard) error {
		_, err := c.GetGuarded(ctx, key, guards...)
		return err
	},
	"CASGuarded": func(ctx context.Context, c everything, key string, guards ...kv.Guard) error {
		return c.CASGuarded(ctx, key, ignore, guards...)
	},
	"DeleteGuarded": func(ctx context.Context, c everything, key string, guards ...kv.Guard) error {
		return c.DeleteGuarded(ctx, key, guards...)
	},
	"GetVersion": func(ctx context.Context, c everything, key string, guards ...kv.Guard) error {
		_, _, err := c.GetVersion(ctx, key, guards...)
		return err
	},
	"SwapVersion": func(ctx context.Context, c everything, key string, guards ...kv.Guard) error {
		_, err := c.SwapVersion(ctx, key, 3, "new", guards...)
		return err
	},
}

func TestPrefixPutsItselfBeforeEveryKey(t *testing.T) {
	ctx := t.Context()
	inner := newFake()
	c := mustPrefix(t, inner, "a/b/").(everything)
	guards := []kv.Guard{{Key: ".polykv/epoch", Version: 7}, {Key: "lock", Version: 8}}
	want := map[string]string{
		"Get":           "Get a/b/k",
		"Delete":        "Delete a/b/k",
		"CAS":           "CAS a/b/k",
		"Watch":         "Watch a/b/k false",
		"GetGuarded":    "GetGuarded a/b/k a/b/.polykv/epoch@7 a/b/lock@8",
		"CASGuarded":    "CASGuarded a/b/k a/b/.polykv/epoch@7 a/b/lock@8",
		"DeleteGuarded": "DeleteGuarded a/b/k a/b/.polykv/epoch@7 a/b/lock@8",
		"GetVersion":    "GetVersion a/b/k a/b/.polykv/epoch@7 a/b/lock@8",
		"SwapVersion":   "SwapVersion a/b/k 3 new a/b/.polykv/epoch@7 a/b/lock@8",
	}
	for name, call := range keyed {
		if err := call(ctx, c, "k", guards...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := inner.took(); !slices.Equal(got, []string{want[name]}) {
			t.Errorf("%s asked for %q, want %q", name, got, want[name])
		}
	}
	if guards[0].Key != ".polykv/epoch" {
		t.Errorf("the caller's guard was changed to %q", guards[0].Key)
	}

	c.WatchKey(ctx, "k", func(any) bool { return false })
	_ = c.Close()
	_, _ = c.GetGuarded(ctx, "k")
	if got, want := inner.took(), []string{"WatchKey a/b/k", "Close", "GetGuarded a/b/k -"}; !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
}

func TestPrefixTakesItselfOffResults(t *testing.T) {
	ctx := t.Context()
	inner := newFake("a/x", "a/x/y", "a/a/x", "ab", "b")
	inner.script = []kv.Event{
		{Type: kv.Put, Key: "a/x", Value: 1},
		{Type: kv.Synced},
		{Type: kv.Undecodable, Key: "a/a/x", Err: errors.New("bad")},
		{Type: kv.Delete, Key: "a/x"},
	}
	c := mustPrefix(t, inner, "a/")

	keys, err := c.List(ctx, "")
	if want := []string{"a/x", "x", "x/y"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("List = %q, %v, want %q", keys, err, want)
	}

	var seen []string
	for e, err := range kv.Entries(ctx, c, "x") {
		seen = append(seen, fmt.Sprint(e.Key, "=", e.Value, "@", e.Version, err))
	}
	if want := []string{"x=value of a/x@1 <nil>", "x/y=value of a/x/y@2 <nil>"}; !slices.Equal(seen, want) {
		t.Errorf("Entries = %q, want %q", seen, want)
	}
	for _, err := range kv.Entries(ctx, c, "") {
		if err != nil {
			t.Error(err)
		}
		break // the runtime panics if the iterator yields again
	}

	seen = nil
	c.WatchPrefix(ctx, "x", func(key string, value any) bool {
		seen = append(seen, fmt.Sprint(key, "=", value))
		return true
	})
	if want := []string{"x=value of a/x", "x=<nil>", "x/y=value of a/x/y", "x/y=<nil>"}; !slices.Equal(seen, want) {
		t.Errorf("WatchPrefix saw %q, want %q", seen, want)
	}

	seen = nil
	if err := kv.Watch(ctx, c, kv.PrefixRange("no/key/"), func(e kv.Event) bool {
		seen = append(seen, fmt.Sprint(e.Type, " ", e.Key, " ", e.Value, " ", e.Err))
		return e.Type != kv.Delete
	}); err != nil {
		t.Error(err)
	}
	want := []string{"put x 1 <nil>", "synced  <nil> <nil>", "undecodable a/x <nil> bad", "delete x <nil> <nil>"}
	if !slices.Equal(seen, want) {
		t.Errorf("Watch saw %q, want %q", seen, want)
	}
	if got := inner.took(); got[len(got)-1] != "Watch a/no/key/ true" {
		t.Errorf("Watch asked for %q", got[len(got)-1])
	}
}

// badKeys break rule K1 whatever is put before them.
var badKeys = []string{
	"", "/", "/x", "x/", "x//y", ".", "..", "./x", "x/..", "a/../b", "tab\t", "del\x7f", "\xff", "\u0085",
	strings.Repeat("k", kv.MaxKeyLen+1),
}

func TestPrefixRefusesInvalidKeysItself(t *testing.T) {
	ctx := t.Context()
	inner := newFake()
	c := mustPrefix(t, inner, "a/b/").(everything)
	tooLongTogether := strings.Repeat("k", kv.MaxKeyLen-len("a/b/")+1)
	for name, call := range keyed {
		for _, key := range append([]string{tooLongTogether}, badKeys...) {
			err := call(ctx, c, key)
			var e *kv.Error
			if !errors.Is(err, kv.ErrInvalidKey) || !errors.As(err, &e) || e.Op != name || e.Key != key {
				t.Errorf("%s(%q) = %v, want ErrInvalidKey that names both", name, key, err)
			}
			if strings.HasSuffix(name, "Guarded") || strings.HasSuffix(name, "Version") {
				err = call(ctx, c, "ok", kv.Guard{Key: key, Version: 1})
				if !errors.Is(err, kv.ErrInvalidKey) {
					t.Errorf("%s with a guard on %q = %v, want ErrInvalidKey", name, key, err)
				}
			}
		}
		if got := inner.took(); got != nil {
			t.Errorf("%s asked the client inside for %q", name, got)
		}
		if err := call(ctx, c, tooLongTogether[1:], kv.Guard{Key: tooLongTogether[1:], Version: 1}); err != nil {
			t.Errorf("%s refused a key of exactly the longest length: %v", name, err)
		}
		inner.took()
	}
	for _, key := range badKeys {
		c.WatchKey(ctx, key, func(any) bool { t.Errorf("WatchKey(%q) called f", key); return false })
	}
}

// An invalid key stays invalid with a prefix, and a reserved one reserved, and
// a valid one becomes neither: that is why Prefix may leave WatchKey's refusal
// and rule K3 to the client inside.
func FuzzPrefixKeepsValidity(f *testing.F) {
	for _, key := range append([]string{"x", ".polykv", "x/.polykv/y", ".polykv2", "\x80x", "…/é"}, badKeys...) {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		const prefix = "é/b/"
		bare, full := kv.CheckKey(key) == nil, kv.CheckKey(prefix+key) == nil
		if fits := len(prefix)+len(key) <= kv.MaxKeyLen; full != (bare && fits) {
			t.Errorf("%q is valid: %v, with a prefix: %v", key, bare, full)
		}
	})
}

func TestPrefixOfReservedKeys(t *testing.T) {
	ctx := t.Context()
	const key = "x/.polykv/lock"
	inner := newFake()
	c := mustPrefix(t, inner, "a/")
	if _, err := c.Get(ctx, key); !errors.Is(err, kv.ErrInvalidKey) {
		t.Errorf("Get of a reserved key = %v, want ErrInvalidKey", err)
	}

	viewOfPrefix, err := kv.Raw(c)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := kv.Raw(inner)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]kv.Client{"Raw(Prefix(c))": viewOfPrefix, "Prefix(Raw(c))": mustPrefix(t, raw, "a/")} {
		if _, err := c.Get(ctx, key); err != nil {
			t.Errorf("%s: Get of a reserved key = %v", name, err)
		}
		if got := inner.raw.took(); !slices.Equal(got, []string{"Get a/x/.polykv/lock"}) {
			t.Errorf("%s asked the raw view for %q", name, got)
		}
		if _, err := c.Get(ctx, "x//y"); !errors.Is(err, kv.ErrInvalidKey) {
			t.Errorf("%s: Get of an invalid key = %v, want ErrInvalidKey", name, err)
		}
	}
}

func TestPrefixRefusesBadPrefixes(t *testing.T) {
	inner := newFake()
	longest := strings.Repeat("p", kv.MaxKeyLen-2) + "/"
	for _, prefix := range []string{"a", "/", "/a/", "a//", "a/../", ".polykv/", "a/.polykv/", "\xff/", "p" + longest} {
		if c, err := kv.Prefix(inner, prefix); !errors.Is(err, kv.ErrInvalidKey) || c != nil {
			t.Errorf("Prefix(%q) = %v, %v, want ErrInvalidKey", prefix, c, err)
		}
	}
	c := mustPrefix(t, inner, longest)
	if _, err := c.Get(t.Context(), "k"); err != nil {
		t.Errorf("no key fits behind the longest prefix: %v", err)
	}
	if _, err := kv.Prefix(c, "p/"); !errors.Is(err, kv.ErrInvalidKey) {
		t.Errorf("a prefix of a prefix that leaves no room was accepted: %v", err)
	}
	if c := mustPrefix(t, inner, ""); c != kv.Client(inner) {
		t.Errorf("the empty prefix made a %T", c)
	}
}

func TestPrefixLimits(t *testing.T) {
	inner := newFake()
	c := mustPrefix(t, mustPrefix(t, inner, "a/"), "bc/")
	want := kv.Limits{Key: kv.MaxKeyLen - 5, Value: 1000, GuardedValue: 500}
	if l, err := kv.LimitsOf(c); err != nil || l != want {
		t.Errorf("LimitsOf = %+v, %v, want %+v", l, err, want)
	}
	inner.limits.Key = 4
	if l, _ := kv.LimitsOf(c); l.Key != 1 {
		t.Errorf("Limits.Key = %d, want 1: 0 would mean no limit", l.Key)
	}
	inner.limits.Key = 0
	if l, _ := kv.LimitsOf(c); l.Key != 0 {
		t.Errorf("Limits.Key = %d, want 0: no limit is known", l.Key)
	}
}

func TestPrefixesCompose(t *testing.T) {
	inner := newFake()
	c := mustPrefix(t, mustPrefix(t, inner, "a/"), "b/")
	if _, err := c.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if got := inner.took(); !slices.Equal(got, []string{"Get a/b/k"}) {
		t.Errorf("asked for %q", got)
	}
}

func TestPrefixRefusesWhatTheClientInsideLacks(t *testing.T) {
	ctx := t.Context()
	c := mustPrefix(t, plain{newFake("a/k")}, "a/").(everything)
	errs := map[string]error{"Ping": c.Ping(ctx)}
	for name, call := range keyed {
		if name != "Get" && name != "Delete" && name != "CAS" {
			errs[name] = call(ctx, c, "k")
		}
	}
	_, errs["Raw"] = c.Raw()
	_, errs["Limits"] = c.Limits()
	for name, err := range errs {
		if !errors.Is(err, kv.ErrNotSupported) {
			t.Errorf("%s = %v, want ErrNotSupported", name, err)
		}
	}
	if err := mustPrefix(t, newFake(), "a/").(kv.Pinger).Ping(ctx); err != nil {
		t.Errorf("Ping = %v", err)
	}
}
