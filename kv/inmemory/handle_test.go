package inmemory

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

func TestRecreatedKeyHasFreshVersion(t *testing.T) {
	h := NewStore().Open()
	first := put(t, h, "k", "same")
	remove(t, h, "k")
	second := put(t, h, "k", "same")
	if first.Version == second.Version {
		t.Fatalf("version %d came back", first.Version)
	}
	now := swap(t, h, driver.Swap{Key: "k", Prev: first, Value: []byte("lost"), ID: 1}, driver.Conflict)
	if !same(now, second) {
		t.Fatalf("the conflict shows %v, want %v", now, second)
	}
}

func TestEmptyValueExists(t *testing.T) {
	h := NewStore().Open()
	swap(t, h, driver.Swap{Key: "k", ID: 1}, driver.Applied)
	if e := get(t, h, "k"); !e.Exists() || e.Value == nil || len(e.Value) > 0 {
		t.Fatalf("got %#v", e)
	}
	if e := get(t, h, "other"); e.Exists() || e.Value != nil {
		t.Fatalf("got %#v for an absent key", e)
	}
}

func TestGuard(t *testing.T) {
	h := NewStore().Open()
	lock := put(t, h, "lock", "mine")
	held := []driver.Guard{{Key: "lock", Version: lock.Version}}
	absent := []driver.Guard{{Key: "nothing"}} // not a valid guard: it must not hold

	swap(t, h, driver.Swap{Key: "k", Value: []byte("1"), Guards: held, ID: 1}, driver.Applied)
	swap(t, h, driver.Swap{Key: "k", Value: []byte("2"), Guards: held, ID: 1}, driver.Conflict)
	swap(t, h, driver.Swap{Key: "k2", Guards: absent, ID: 1}, driver.GuardBroken)
	if _, err := h.Get(ctx, driver.GetRequest{Key: "k", Guards: held}); err != nil {
		t.Fatal(err)
	}

	// A key may guard itself.
	swap(t, h, driver.Swap{Key: "lock", Prev: lock, Value: []byte("theirs"), Guards: held, ID: 1}, driver.Applied)

	// Broken takes precedence over a conflict.
	swap(t, h, driver.Swap{Key: "k", Value: []byte("3"), Guards: held, ID: 1}, driver.GuardBroken)
	for _, g := range [][]driver.Guard{held, absent} {
		if _, err := h.Get(ctx, driver.GetRequest{Key: "k", Guards: g}); !errors.Is(err, driver.ErrFenced) {
			t.Fatalf("Get guarded by %+v: %v", g, err)
		}
	}
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		name  string
		store *Store
		limit int // 0: none
		fits  int
	}{
		{"default", NewStore(), 512 << 10, 512 << 10},
		{"zero", NewStore(WithMaxValueSize(0)), 512 << 10, 512 << 10},
		{"configured", NewStore(WithMaxValueSize(10)), 10, 10},
		{"none", NewStore(WithMaxValueSize(-5)), 0, 4 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := tc.store.Open()
			want := driver.Limits{Key: 512, Value: tc.limit, GuardedValue: tc.limit, Guards: 8}
			if got := h.Limits(); got != want {
				t.Fatalf("Limits() = %+v, want %+v", got, want)
			}
			swap(t, h, driver.Swap{Key: "k", Value: make([]byte, tc.fits), ID: 1}, driver.Applied)
			if tc.limit > 0 {
				refused(t, h, driver.Swap{Key: "k2", Value: make([]byte, tc.fits+1), ID: 1}, driver.ErrTooLarge)
			}
		})
	}
	h := NewStore().Open()
	swap(t, h, driver.Swap{Key: strings.Repeat("k", 512), ID: 1}, driver.Applied)
	refused(t, h, driver.Swap{Key: strings.Repeat("k", 513), ID: 1}, driver.ErrTooLarge)
}

func TestSwapRefusesNonsense(t *testing.T) {
	h := NewStore().Open()
	refused(t, h, driver.Swap{Value: []byte("v"), ID: 1}, errNoKey)
	refused(t, h, driver.Swap{Key: "k", Remove: true, ID: 1}, errRemoveAbsent)
}

// refused checks that s is not applied, finally, because of want.
func refused(t *testing.T, h driver.Store, s driver.Swap, want error) {
	t.Helper()
	r, err := h.Swap(ctx, s)
	if r.Outcome != driver.NotApplied || !errors.Is(err, want) || !driver.IsPermanent(err) {
		t.Fatalf("Swap = %v, %v; want %v", r.Outcome, err, want)
	}
	if s.Key != "" && get(t, h, s.Key).Exists() {
		t.Fatal("it was written")
	}
}

// allCalls makes each call on h once and returns their errors.
func allCalls(ctx context.Context, h driver.Store) map[string]error {
	errs := map[string]error{}
	_, errs["Get"] = h.Get(ctx, driver.GetRequest{Key: "k"})
	_, errs["Scan"] = h.Scan(ctx, driver.ScanRequest{})
	r, err := h.Swap(ctx, driver.Swap{Key: "k", ID: 1})
	errs["Swap"] = err
	if r.Outcome != driver.NotApplied {
		errs["Swap's outcome "+r.Outcome.String()] = nil
	}
	errs["Watch"] = h.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: "k"}}, func(driver.Event) {})
	return errs
}

func TestCancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	for call, err := range allCalls(ctx, NewStore().Open()) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func TestClose(t *testing.T) {
	s := NewStore()
	a, b := s.Open(), s.Open()
	put(t, a, "k", "v")
	watching := make(chan driver.Event, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- a.Watch(ctx, driver.WatchRequest{Range: driver.Range{IsPrefix: true}}, func(e driver.Event) { watching <- e })
	}()
	for receive(t, watching, "Synced").Type != driver.Synced {
	}
	for range 2 { // it is idempotent
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := receive(t, ended, "the watch to end"); !errors.Is(err, driver.ErrClosed) {
		t.Fatalf("the watch ended with %v", err)
	}
	for call, err := range allCalls(ctx, a) {
		if !errors.Is(err, driver.ErrClosed) {
			t.Errorf("%s after Close: %v", call, err)
		}
	}
	if e := get(t, b, "k"); string(e.Value) != "v" {
		t.Fatalf("the other handle sees %v", e)
	}
	put(t, b, "k", "w")
	if len(watching) > 0 {
		t.Fatal("the ended watch got an event")
	}
}

func TestNonBlocking(t *testing.T) {
	n, ok := NewStore().Open().(driver.NonBlocking)
	if !ok || !n.NonBlocking() {
		t.Fatal("the engine would spend a timer on each call")
	}
}

func TestValuesAreShared(t *testing.T) {
	h := NewStore().Open()
	v := []byte("value")
	swap(t, h, driver.Swap{Key: "k", Value: v, ID: 1}, driver.Applied)
	if e := get(t, h, "k"); &e.Value[0] != &v[0] || !bytes.Equal(e.Value, v) {
		t.Fatal("the value was copied")
	}
}
