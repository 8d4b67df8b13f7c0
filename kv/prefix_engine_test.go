package kv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func TestPrefixesShareAStoreWithoutMeeting(t *testing.T) {
	ctx := t.Context()
	r := newRig(t, kv.Options{})
	a, b := mustPrefix(t, r.client, "a/"), mustPrefix(t, r.client, "b/")
	r.put(a, "k", "1")
	r.put(b, "k", "2")
	r.want("a/k", "1")
	r.want("b/k", "2")
	if err := b.Delete(ctx, "k"); err != nil {
		t.Error(err)
	}
	if v, err := a.Get(ctx, "k"); v != "1" || err != nil {
		t.Errorf("Get = %v, %v", v, err)
	}
	if keys, err := b.List(ctx, ""); len(keys) != 0 || err != nil {
		t.Errorf("List = %v, %v", keys, err)
	}
	if err := a.CAS(ctx, "k", increment); err != nil {
		t.Error(err)
	}
	var seen []string
	a.WatchPrefix(ctx, "", func(key string, value any) bool {
		seen = append(seen, fmt.Sprint(key, "=", value))
		r.put(r.other, "ab", "not below the prefix")
		if value != nil {
			return a.Delete(ctx, key) == nil
		}
		return false
	})
	if want := []string{"k=2", "k=<nil>"}; !slices.Equal(seen, want) {
		t.Errorf("WatchPrefix saw %q, want %q", seen, want)
	}
}

func TestPrefixGuardsHold(t *testing.T) {
	ctx := t.Context()
	r := newRig(t, kv.Options{})
	c := mustPrefix(t, r.client, "a/")
	raw, err := kv.Raw(c)
	if err != nil {
		t.Fatal(err)
	}
	const epoch = ".polykv/epoch"
	version, err := raw.(everything).SwapVersion(ctx, epoch, 0, []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	guard := kv.Guard{Key: epoch, Version: version}
	guarded, err := kv.Guarded(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := guarded.CASGuarded(ctx, "k", set("v"), guard); err != nil {
		t.Errorf("under a guard that holds: %v", err)
	}
	r.want("a/k", "v")
	if _, err := raw.(everything).SwapVersion(ctx, epoch, version, []byte("2")); err != nil {
		t.Fatal(err)
	}
	if err := guarded.CASGuarded(ctx, "k", set("w"), guard); !errors.Is(err, kv.ErrFenced) {
		t.Errorf("under a guard that is broken: %v, want ErrFenced", err)
	}
	if keys, err := c.List(ctx, ""); !slices.Equal(keys, []string{"k"}) || err != nil {
		t.Errorf("List = %q, %v, want no reserved key in it", keys, err)
	}
	if keys, err := raw.List(ctx, ".polykv/"); !slices.Equal(keys, []string{epoch}) || err != nil {
		t.Errorf("List of the raw view = %q, %v", keys, err)
	}
}

func TestPrefixPingsBelowItself(t *testing.T) {
	r := newRig(t, kv.Options{})
	var asked []string
	r.store.onGet = func(_ context.Context, req driver.GetRequest) error {
		asked = append(asked, req.Key)
		return nil
	}
	nested := mustPrefix(t, mustPrefix(t, r.client, "a/"), "b/")
	long := strings.Repeat("p", kv.MaxKeyLen-2) + "/"
	full := mustPrefix(t, r.client, long)
	behindAnother := mustPrefix(t, kv.SkipDeletes(r.client), "a/")
	for _, c := range []kv.Client{nested, full, behindAnother} {
		if err := kv.Ping(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"a/b/.polykv/ping", long + "~", ".polykv/ping"}; !slices.Equal(asked, want) {
		t.Errorf("the store was asked for %q, want %q", asked, want)
	}
}

// The wrapper has no logger of its own, so this must reach the client's.
func TestPrefixWatchKeyOfAnInvalidKeyIsLogged(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, kv.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	c := mustPrefix(t, r.client, "a/")
	for _, key := range append([]string{".polykv/x"}, badKeys...) {
		log.Reset()
		c.WatchKey(t.Context(), key, func(any) bool { return true })
		if got := log.String(); !strings.Contains(got, "invalid key") {
			t.Errorf("WatchKey(%q) logged %q", key, got)
		}
	}
}
