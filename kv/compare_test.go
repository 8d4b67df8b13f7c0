package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/internal/testlog"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// scanned counts what its watches are compared with.
type scanned struct {
	kv.NopObserver
	scans, missed atomic.Int64
}

func (o *scanned) Request(_ context.Context, _, op string, _ time.Duration, _ error) {
	if op == "scan" {
		o.scans.Add(1)
	}
}

func (o *scanned) WatchResync(_ context.Context, _ string, err error) {
	if errors.Is(err, kv.ErrMissed) {
		o.missed.Add(1)
	}
}

// shown is what a watch has told by now.
type shown struct {
	mu          sync.Mutex
	now         map[string]any
	interrupted []error
}

func (s *shown) take(ev kv.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ev.Type {
	case kv.Put:
		s.now[ev.Key] = ev.Value
	case kv.Delete:
		delete(s.now, ev.Key)
	case kv.Interrupted:
		s.interrupted = append(s.interrupted, ev.Err)
	default:
	}
	return true
}

func (s *shown) of(key string) any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now[key]
}

func (s *shown) interruptions() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.interrupted
}

// comparing runs a watch in virtual time over a store whose events lose treats
// first.
func comparing(t *testing.T, opts kv.Options, rng kv.Range, lose func(driver.Event) (lost bool), f func(r *rig, s *shown)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, opts)
		r.store.onWatch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event), _ func() error) error {
			// From one goroutine to another, so that what takes time holds up no
			// lock of the store.
			events := make(chan driver.Event, 10_000)
			var way sync.WaitGroup
			defer way.Wait()
			defer close(events)
			way.Go(func() {
				for ev := range events {
					if ctx.Err() == nil && !lose(ev) {
						emit(ev)
					}
				}
			})
			return r.store.Store.Watch(ctx, req, func(ev driver.Event) { events <- ev })
		}
		for _, key := range []string{"p/kept", "p/gone"} {
			r.put(r.other, key, "1")
		}
		s := &shown{now: map[string]any{}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = kv.Watch(ctx, r.client, rng, s.take)
		}()
		synctest.Wait()
		f(r, s)
		cancel()
		<-ended
	})
}

// change writes p/kept and p/new and deletes p/gone.
func (r *rig) change() {
	r.t.Helper()
	r.put(r.other, "p/kept", "2")
	r.put(r.other, "p/new", "1")
	if err := r.other.Delete(r.t.Context(), "p/gone"); err != nil {
		r.t.Fatal(err)
	}
}

// A store that loses one event has told of it before three quarters of an hour
// are over, though nothing that it says later shows that one is missing.
func TestWatchFindsWhatTheStoreLost(t *testing.T) {
	for name, c := range map[string]struct {
		rng  kv.Range
		key  string
		want any
	}{
		"a write":             {kv.PrefixRange("p/"), "p/kept", "2"},
		"a creation":          {kv.PrefixRange("p/"), "p/new", "1"},
		"a deletion":          {kv.PrefixRange("p/"), "p/gone", nil},
		"a write of one key":  {kv.KeyRange("p/kept"), "p/kept", "2"},
		"a creation of a key": {kv.KeyRange("p/new"), "p/new", "1"},
		"a deletion of a key": {kv.KeyRange("p/gone"), "p/gone", nil},
	} {
		t.Run(name, func(t *testing.T) {
			var log testlog.Log
			var seen scanned
			var armed atomic.Bool
			lose := func(ev driver.Event) bool { return ev.Entry.Key == c.key && armed.CompareAndSwap(true, false) }
			opts := kv.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)), Observer: &seen}
			comparing(t, opts, c.rng, lose, func(r *rig, s *shown) {
				before := s.of(c.key)
				armed.Store(true)
				r.change()
				r.put(r.other, "p/later", "1")
				synctest.Wait()
				if armed.Load() || s.of(c.key) != before {
					t.Fatalf("nothing was lost: %v", s.of(c.key))
				}
				time.Sleep(22 * time.Minute)
				synctest.Wait()
				if s.of(c.key) != c.want {
					t.Errorf("%s is %v, want %v", c.key, s.of(c.key), c.want)
				}
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				if got := s.interruptions(); len(got) != 1 || !errors.Is(got[0], kv.ErrMissed) || !strings.Contains(got[0].Error(), c.key) {
					t.Errorf("interrupted by %v", got)
				}
				if n := seen.missed.Load(); n != 1 {
					t.Errorf("counted %d times", n)
				}
				if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), c.key) {
					t.Errorf("%d warnings in\n%s", n, log.String())
				}
			})
		})
	}
}

// A key that changes all the time, whose changes take a while, is not missed.
func TestWatchComparesWithoutFalseAlarm(t *testing.T) {
	var seen scanned
	comparing(t, kv.Options{Observer: &seen}, kv.PrefixRange("p/"), func(ev driver.Event) bool {
		if ev.Type == driver.Put || ev.Type == driver.Delete {
			time.Sleep(compareGrace / 10)
		}
		return false
	}, func(r *rig, s *shown) {
		for range 500 {
			r.change()
			time.Sleep(40 * time.Second)
			r.put(r.other, "p/gone", "2")
			if err := r.other.Delete(t.Context(), "p/new"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Minute)
		}
		if seen.scans.Load() < 10 || len(s.interruptions()) > 0 {
			t.Errorf("%d listings; interrupted by %v", seen.scans.Load(), s.interruptions())
		}
	})
}

// compareGrace is that of package kv.
const compareGrace = time.Minute

// A range of very many keys is compared less often, and none if that is turned
// off, or if the driver does it.
func TestWatchIsComparedAsOftenAsItMay(t *testing.T) {
	for name, c := range map[string]struct {
		every  time.Duration
		itself bool
		keys   int
		least  int64
		most   int64
	}{
		"default":            {0, false, 2, 8, 18},
		"every hour":         {time.Hour, false, 2, 1, 3},
		"many keys":          {0, false, 150_000, 3, 7}, // one listing in 25 to 50 minutes
		"never":              {-1, false, 2, 0, 0},
		"the driver does it": {0, true, 2, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var seen scanned
				s := &manyKeys{keys: c.keys, itself: c.itself}
				client := kv.New(s, stringCodec, &kv.Options{CompareWatches: c.every, Observer: &seen, ShareBytes: 1 << 30})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					_ = kv.Watch(ctx, client, kv.PrefixRange("p/"), func(kv.Event) bool { return true })
				}()
				time.Sleep(3 * time.Hour)
				if n := s.listings.Load(); n < c.least || n > c.most || seen.missed.Load() > 0 {
					t.Errorf("%d listings in 3 hours, want %d to %d; %d alarms", n, c.least, c.most, seen.missed.Load())
				}
				cancel()
				<-ended
				if err := client.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// manyKeys is a store of so many keys that nobody writes.
type manyKeys struct {
	driver.Store // nil: what is not asked for
	keys         int
	itself       bool
	listings     atomic.Int64
}

func (s *manyKeys) ComparesWatches() bool { return s.itself }
func (s *manyKeys) Limits() driver.Limits { return driver.Limits{Key: 512, Value: 1000} }
func (s *manyKeys) Close() error          { return nil }

func (s *manyKeys) entry(i int) driver.Entry {
	return driver.Entry{Key: fmt.Sprintf("p/%06d", i), Value: []byte("v"), Version: driver.Version(i + 1)}
}

func (s *manyKeys) Watch(ctx context.Context, _ driver.WatchRequest, emit func(driver.Event)) error {
	for i := range s.keys {
		emit(driver.Event{Type: driver.Put, Entry: s.entry(i)})
	}
	emit(driver.Event{Type: driver.Synced})
	<-ctx.Done()
	return ctx.Err()
}

func (s *manyKeys) Scan(_ context.Context, req driver.ScanRequest) (driver.Page, error) {
	if !req.KeysOnly || req.AllowStale {
		return driver.Page{}, fmt.Errorf("a listing that costs more or proves less than it may: %+v", req)
	}
	s.listings.Add(1)
	page := driver.Page{Entries: make([]driver.Entry, s.keys)}
	for i := range page.Entries {
		page.Entries[i] = s.entry(i)
		page.Entries[i].Value = nil
	}
	return page, nil
}
