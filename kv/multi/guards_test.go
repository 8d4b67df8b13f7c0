package multi_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi"
)

// A caller's guards join the record's in one write. One of theirs that is broken
// fences the call at once, also where the record still holds, and an answer of
// "fenced" for the record's guard still sends the call to the new primary.
func TestGuardsOfACallerBesideTheRecords(t *testing.T) {
	r := newRig(t)
	c := r.client(nil)
	put(t, c, "lock", "mine")
	guardOn := func(key string) kv.Guard {
		t.Helper()
		_, version, err := c.GetVersion(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return kv.Guard{Key: key, Version: version}
	}
	wantFenced := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, kv.ErrFenced) {
			t.Errorf("%s returned %v, want ErrFenced", what, err)
		}
	}
	all := func(want func(what string, err error), guard kv.Guard) {
		t.Helper()
		want("a CAS", c.CASGuarded(t.Context(), "k", increment, guard))
		_, err := c.GetGuarded(t.Context(), "k", guard)
		want("a Get", err)
		_, version, err := c.GetVersion(t.Context(), "k", guard)
		want("GetVersion", err)
		_, err = c.SwapVersion(t.Context(), "k", version, "7", guard)
		want("SwapVersion", err)
		want("a Delete", c.DeleteGuarded(t.Context(), "k", guard))
	}
	holds := guardOn("lock")
	all(func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s under a guard that holds: %v", what, err)
		}
	}, holds)

	put(t, c, "lock", "theirs")
	put(t, c, "k", "1")
	began := time.Now()
	all(wantFenced, holds)
	if took := time.Since(began); took > 18*time.Second { // FenceTimeout is 20 s
		t.Errorf("five calls under a broken guard took %v: they waited for another primary", took)
	}
	if got := get(t, c, "k"); got != "1" {
		t.Errorf("the key is %v", got)
	}

	// What was read of the old primary is no guard on the new one.
	before := guardOn("lock")
	r.cutover()
	wantFenced("a CAS under a guard of before the cutover", c.CASGuarded(t.Context(), "k", increment, before))
	if err := c.CASGuarded(t.Context(), "k", increment, guardOn("lock")); err != nil {
		t.Errorf("a CAS under a guard on the new primary: %v", err)
	}
}

// A coordinated client takes one guard less than its stores do.
func TestGuardsLeaveRoomForTheRecords(t *testing.T) {
	r := newRig(t)
	c := r.client(nil)
	put(t, c, "lock", "mine")
	limits, err := c.Limits()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := kv.LimitsOf(r.plain[0])
	if err != nil || limits.Guards != plain.Guards-1 {
		t.Fatalf("it takes %d guards, its store %d (%v)", limits.Guards, plain.Guards, err)
	}
	_, version, err := c.GetVersion(t.Context(), "lock")
	if err != nil {
		t.Fatal(err)
	}
	guards := make([]kv.Guard, limits.Guards)
	for i := range guards {
		guards[i] = kv.Guard{Key: "lock", Version: version}
	}
	if err := c.CASGuarded(t.Context(), "k", increment, guards...); err != nil {
		t.Errorf("under %d guards: %v", len(guards), err)
	}
	if err := c.CASGuarded(t.Context(), "k", increment, append(guards, guards[0])...); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("under %d guards: %v, want ErrNotSupported", len(guards)+1, err)
	}
}

// high is a store whose versions are larger than those that a client can mark.
type high struct{ driver.Store }

const tooHigh = 1 << 50

func (h high) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	e, err := h.Store.Get(ctx, r)
	return raised(e), err
}

func raised(e driver.Entry) driver.Entry {
	if e.Version != 0 {
		e.Version += tooHigh
	}
	return e
}

func (h high) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if s.Prev.Version != 0 {
		s.Prev.Version -= tooHigh
	}
	result, err := h.Store.Swap(ctx, s)
	result.Entry = raised(result.Entry)
	return result, err
}

func (h high) Scan(ctx context.Context, r driver.ScanRequest) (driver.Page, error) {
	page, err := h.Store.Scan(ctx, r)
	for i, e := range page.Entries {
		page.Entries[i] = raised(e)
	}
	return page, err
}

// A store whose versions can't be marked has none to show, and a write that it takes
// all the same is not lost.
func TestVersionsThatAreTooLarge(t *testing.T) {
	p := newPair(t)
	c := p.open(multi.DefaultConfig(), func(_ int, s driver.Store) driver.Store { return high{s} })
	version, err := c.SwapVersion(t.Context(), "k", 0, "v")
	if version != 0 || !errors.Is(err, kv.ErrIndeterminate) || !errors.Is(err, kv.ErrNotSupported) || !strings.Contains(err.Error(), "the write was applied") {
		t.Errorf("SwapVersion: %d, %v", version, err)
	}
	for i, store := range p.plain {
		if got := get(t, store, "k"); got != "v" {
			t.Errorf("store %d holds %v", i, got)
		}
	}
	if value, version, err := c.GetVersion(t.Context(), "k"); version != 0 || !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("GetVersion: %v, %d, %v", value, version, err)
	}
	for e, err := range c.Entries(t.Context(), "") {
		if e.Key != "k" || e.Version != 0 || !errors.Is(err, kv.ErrNotSupported) {
			t.Errorf("Entries: %+v, %v", e, err)
		}
	}
	put(t, c, "k", "w") // which needs none
	p.wantEqual()
}
