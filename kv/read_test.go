package kv_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func TestListPages(t *testing.T) {
	r := newRig(t, kv.Options{ScanPage: 7})
	var want []string
	for i := range 50 {
		key := fmt.Sprintf("p/%03d", i)
		want = append(want, key)
		r.put(r.client, key, "v")
	}
	r.put(r.client, "other", "v")
	got, err := r.client.List(t.Context(), "p/")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("List = %v, %v", got, err)
	}
	if got, err := r.client.List(t.Context(), "absent"); got == nil || len(got) != 0 || err != nil {
		t.Errorf("List of nothing = %v, %v; want an empty slice", got, err)
	}
	i := 0
	for entry, err := range kv.Entries(t.Context(), r.client, "p/") {
		if err != nil || entry.Key != want[i] || entry.Value != "v" || entry.Version == 0 {
			t.Fatalf("entry %d = %+v, %v", i, entry, err)
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%d entries, want %d", i, len(want))
	}
}

// barely is a store that answers with keys alone where it may.
type barely struct {
	*hooked
	bare int // pages of keys alone
}

func (s *barely) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	page, err := s.hooked.Scan(ctx, req)
	if req.Bare {
		s.bare++
		for _, e := range page.Entries {
			page.Keys = append(page.Keys, e.Key)
		}
		page.Entries = nil
	}
	return page, err
}

func TestListOfBareKeys(t *testing.T) {
	r := newRig(t, kv.Options{})
	s := &barely{hooked: &hooked{Store: r.data.Open()}}
	c := kv.New(s, stringCodec, &kv.Options{ScanPage: 3, ListPage: 3})
	defer c.Close()
	want := []string{}
	for i := range 10 {
		want = append(want, fmt.Sprint(i))
		r.put(r.other, want[i], "v")
	}
	if res, err := s.Swap(t.Context(), driver.Swap{Key: "3//", Value: []byte("v"), ID: 1}); err != nil || res.Outcome != driver.Applied { // is skipped
		t.Fatal(res.Outcome, err)
	}
	got, err := c.List(t.Context(), "")
	if err != nil || !slices.Equal(got, want) || s.bare != 4 {
		t.Errorf("List = %v, %v, of %d pages", got, err, s.bare)
	}
	if got, err := c.List(t.Context(), "absent"); got == nil || len(got) != 0 || err != nil {
		t.Errorf("List of nothing = %v, %v; want an empty slice", got, err)
	}
	for _, err := range kv.Entries(t.Context(), c, "") {
		if err != nil {
			t.Fatal(err)
		}
	}
	if s.bare != 5 {
		t.Error("Entries asked for keys alone")
	}
}

// losing is a store whose first snapshot is lost at the third page, for good.
type losing struct {
	*hooked
	pages int
	lost  any
}

func (s *losing) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	if s.pages++; s.pages == 3 {
		s.lost = req.Snapshot
	}
	if s.lost != nil && req.Snapshot == s.lost {
		return driver.Page{}, fmt.Errorf("compacted: %w", driver.ErrSnapshotLost)
	}
	name, first := req.Snapshot, req.Snapshot == nil
	if !first {
		req.Snapshot = *name.(*any) //nolint:forcetypeassert // made below
	}
	page, err := s.hooked.Scan(ctx, req)
	if first {
		own := page.Snapshot
		name = &own // of this scan alone
	}
	page.Snapshot = name
	return page, err
}

func TestLostSnapshotStartsAgain(t *testing.T) {
	r := newRig(t, kv.Options{})
	for i := range 10 {
		r.put(r.other, fmt.Sprint(i), "v")
	}
	store := &losing{hooked: r.store}
	c := kv.New(store, stringCodec, &kv.Options{ScanPage: 2})
	keys, err := c.List(t.Context(), "")
	if err != nil || strings.Join(keys, "") != "0123456789" {
		t.Errorf("List = %v, %v", keys, err)
	}
	store.pages, store.lost = 0, nil
	seen := ""
	for entry, err := range kv.Entries(t.Context(), c, "") {
		if err != nil {
			t.Fatal(err)
		}
		seen += entry.Key
	}
	if seen != "0123456789" {
		t.Errorf("Entries = %v", seen)
	}
}

// A listing that the store forgets again and again is given up, and says so.
func TestSnapshotLostAgainAndAgain(t *testing.T) {
	r := newRig(t, kv.Options{})
	for i := range 3 {
		r.put(r.other, fmt.Sprint(i), "v")
	}
	store := &forgetful{hooked: r.store}
	c := kv.New(store, stringCodec, &kv.Options{ScanPage: 1, MaxAttempts: 4})
	keys, err := c.List(t.Context(), "")
	if keys != nil || !errors.Is(err, kv.ErrUnavailable) || errors.Is(err, driver.ErrSnapshotLost) || !strings.Contains(err.Error(), "overtaken 4 times") {
		t.Errorf("List = %v, %v", keys, err)
	}
	if n := store.scans; n != 10 { // five beginnings, and what came after each
		t.Errorf("%d pages were asked for", n)
	}
}

// forgetful has no second page.
type forgetful struct {
	*hooked
	scans int
}

func (f *forgetful) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	f.scans++
	if req.After != "" {
		return driver.Page{}, driver.ErrSnapshotLost
	}
	return f.hooked.Scan(ctx, req)
}

// Without EntryReader, a key that is deleted after it was listed is no entry.
func TestEntriesOfAClientWithoutThem(t *testing.T) {
	f := newFake("a", "b", "c")
	c := plain{&deleting{fake: f, key: "b"}}
	var got []string
	for entry, err := range kv.Entries(t.Context(), c, "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(entry.Key, "=", entry.Value))
	}
	if want := "a=value of a c=value of c"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// deleting deletes a key after it listed it.
type deleting struct {
	*fake
	key string
}

func (d *deleting) List(ctx context.Context, prefix string) ([]string, error) {
	keys, err := d.fake.List(ctx, prefix)
	delete(d.data, d.key)
	return keys, err
}

type countingObserver struct {
	kv.NopObserver
	mu      sync.Mutex
	skipped []string
}

func (o *countingObserver) Skipped(_ context.Context, key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.skipped = append(o.skipped, key)
}

func TestForeignAndReservedKeysAreHidden(t *testing.T) {
	seen := &countingObserver{}
	r := newRig(t, kv.Options{Observer: seen})
	ctx := t.Context()
	foreign := []string{"folder/", "/abs", "a//b", "bad\x01", "bad\xff", strings.Repeat("k", 600)}
	for i, key := range append(foreign, ".polykv/record", "a/.polykv/x", "good", "a/.polykv2/x") {
		if _, err := r.store.Store.Swap(ctx, driver.Swap{Key: key, Value: []byte("v"), ID: uint64(i + 1)}); err != nil {
			t.Logf("%q: %v", key, err) // a key over the store's own limit can't be there
		}
	}
	keys, err := r.client.List(ctx, "")
	if want := []string{"a/.polykv2/x", "good"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("List = %q, %v; want %q", keys, err, want)
	}
	if len(seen.skipped) < 5 {
		t.Errorf("told the observer of %q", seen.skipped)
	}
	raw, err := kv.Raw(r.client)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := raw.List(ctx, ".polykv/"); err != nil || !slices.Equal(keys, []string{".polykv/record"}) {
		t.Errorf("the raw view lists %q, %v below .polykv/", keys, err)
	}
	if keys, err := raw.List(ctx, ""); err != nil || len(keys) != 2 {
		t.Errorf("the raw view lists %q, %v of everything", keys, err)
	}
	if v, err := raw.Get(ctx, ".polykv/record"); err != nil || string(v.([]byte)) != "v" { //nolint:forcetypeassert // a test
		t.Errorf("raw Get = %v, %v", v, err)
	}
	if _, err := r.client.Get(ctx, ".polykv/record"); !errors.Is(err, kv.ErrInvalidKey) {
		t.Errorf("a user's Get of a reserved key: %v", err)
	}
}

func TestGenerationChangeDropsWhatIsRemembered(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.client, "k", "v")
	r.put(r.client, "other", "v")
	gets := r.store.gets.Load()
	r.put(r.client, "k", "w")
	if n := r.store.gets.Load() - gets; n != 0 {
		t.Fatalf("a remembered key took %d reads", n)
	}
	r.store.generation.Store(7)
	if _, err := r.client.Get(t.Context(), "other"); err != nil { // its answer shows it
		t.Fatal(err)
	}
	gets++
	r.put(r.client, "k", "x")
	if n := r.store.gets.Load() - gets; n != 1 {
		t.Errorf("after the store's history changed, a CAS made %d reads, want 1", n)
	}
}

// What was read of a store before the connection was lost is no base of a swap:
// versions of a store that was restored meanwhile may come again.
func TestAnotherEpochHasWhatIsRememberedReadAgain(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.client, "k", "v")
	r.store.epoch.Add(1)
	for i, want := range []int64{1, 0} {
		gets := r.store.gets.Load()
		r.put(r.client, "k", "w")
		if n := r.store.gets.Load() - gets; n != want {
			t.Errorf("CAS number %d of an epoch made %d reads, want %d", i+1, n, want)
		}
	}
}

// A read that the epoch changes under belongs to the one in which it began.
func TestWhatWasReadAcrossAnEpochIsNotRemembered(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.other, "k", "v")
	r.store.onGet = func(context.Context, driver.GetRequest) error {
		r.store.epoch.Add(1)
		return nil
	}
	keep := func(any) (any, bool, error) { return nil, false, nil }
	if err := r.client.CAS(t.Context(), "k", keep); err != nil {
		t.Fatal(err)
	}
	r.store.unhooked.Store(true)
	gets := r.store.gets.Load()
	r.put(r.client, "k", "w")
	if n := r.store.gets.Load() - gets; n != 1 {
		t.Errorf("a CAS made %d reads, want 1", n)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	r := newRig(t, kv.Options{RememberBytes: 100, RememberFor: time.Hour})
	for i := range 50 {
		r.put(r.client, fmt.Sprintf("key-%02d", i), "0123456789")
	}
	if entries, bytes := kv.Remembered(r.client); bytes > 100 || entries == 0 {
		t.Errorf("%d entries of %d bytes are remembered, at most 100 bytes are allowed", entries, bytes)
	}
	for range 50 { // the same key again and again must not add up
		r.put(r.client, "k", "0123456789")
	}
	if entries, bytes := kv.Remembered(r.client); bytes > 100 || entries < 5 {
		t.Errorf("%d entries of %d bytes are remembered", entries, bytes)
	}
	off := newRig(t, kv.Options{RememberEntries: -1})
	off.put(off.client, "k", "v")
	off.put(off.client, "k", "w")
	if n := off.store.gets.Load(); n != 2 {
		t.Errorf("with nothing remembered two CAS made %d reads, want 2", n)
	}
	old := newRig(t, kv.Options{RememberFor: time.Nanosecond})
	old.put(old.client, "k", "v")
	old.put(old.client, "k", "w")
	if n := old.store.gets.Load(); n != 2 {
		t.Errorf("with a memory of one nanosecond two CAS made %d reads, want 2", n)
	}
}

func TestVersions(t *testing.T) {
	r := newRig(t, kv.Options{})
	v, err := kv.Versioned(r.client)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	first, err := v.SwapVersion(ctx, "k", 0, "1")
	if err != nil || first == 0 {
		t.Fatal(first, err)
	}
	if _, err := v.SwapVersion(ctx, "k", 0, "2"); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("creating what exists: %v", err)
	}
	second, err := v.SwapVersion(ctx, "k", first, "2")
	if err != nil || second == first {
		t.Fatal(second, err)
	}
	if _, err := v.SwapVersion(ctx, "k", first, kv.Remove); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("removing at an old version: %v", err)
	}
	guard := kv.Guard{Key: "k", Version: first}
	if _, err := v.SwapVersion(ctx, "other", 0, "x", guard); !errors.Is(err, kv.ErrFenced) {
		t.Errorf("a broken guard: %v", err)
	}
	if _, _, err := v.GetVersion(ctx, "k", guard); !errors.Is(err, kv.ErrFenced) {
		t.Errorf("a read under a broken guard: %v", err)
	}
	if value, version, err := v.GetVersion(ctx, "k", kv.Guard{Key: "k", Version: second}); value != "2" || version != second || err != nil {
		t.Errorf("GetVersion = %v, %v, %v", value, version, err)
	}
	if version, err := v.SwapVersion(ctx, "k", second, kv.Remove); version != 0 || err != nil {
		t.Errorf("removing: %v, %v", version, err)
	}
	if _, err := v.SwapVersion(ctx, "k", 0, kv.Remove); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("removing the absent: %v", err)
	}
	if _, err := v.SwapVersion(ctx, "k", 0, "x", kv.Guard{Key: "k"}); !errors.Is(err, kv.ErrFenced) {
		t.Errorf("absence as a guard: %v", err)
	}
}

func TestPing(t *testing.T) {
	r := newRig(t, kv.Options{})
	if err := kv.Ping(t.Context(), r.client); err != nil {
		t.Error(err)
	}
	away := errors.New("away")
	r.store.onGet = func(context.Context, driver.GetRequest) error { return away }
	before := r.store.gets.Load()
	if err := kv.Ping(t.Context(), r.client); !errors.Is(err, kv.ErrUnavailable) || !errors.Is(err, away) || r.store.gets.Load() != before+1 {
		t.Errorf("Ping = %v after %d requests", err, r.store.gets.Load()-before)
	}
}
