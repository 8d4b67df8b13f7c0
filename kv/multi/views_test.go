package multi_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/side"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// How watches end, and what is said of that.
func TestHowWatchesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newPair(t), &diary{}
		c := p.open(multi.DefaultConfig(), nil, multi.WithLogger(d.logger()))
		put(t, c, "k", "v")
		var e *kv.Error
		err := kv.Watch(t.Context(), c, kv.KeyRange("a//b"), func(kv.Event) bool { return true })
		if !errors.Is(err, kv.ErrInvalidKey) || !errors.As(err, &e) || e.Op != "Watch" || e.Key != "a//b" {
			t.Errorf("of no key: %v", err)
		}
		d.expect(t, "before")
		c.WatchKey(t.Context(), "a//b", func(any) bool { return true })
		d.expect(t, "of no key", `WARN msg="polykv: a watch ended" error="polykv: multi: WatchKey \"a//b\": `)
		n := 0
		if err := kv.Watch(t.Context(), c, kv.PrefixRange(""), func(kv.Event) bool { n++; return false }); err != nil || n != 1 {
			t.Errorf("who has had enough after %d events: %v", n, err)
		}
		var values []any
		c.WatchKey(t.Context(), "k", func(value any) bool { values = append(values, value); return false })
		c.WatchPrefix(t.Context(), "", func(key string, value any) bool { values = append(values, key, value); return false })
		if !slices.Equal(values, []any{"v", "k", "v"}) {
			t.Errorf("told %v", values)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("it has been enough"))
		defer cancel()
		time.AfterFunc(500*time.Millisecond, func() { _ = c.Delete(t.Context(), "k") })
		values = nil
		c.WatchPrefix(ctx, "", func(key string, value any) bool { values = append(values, key, value); return true })
		if !slices.Equal(values, []any{"k", "v", "k", nil}) || ctx.Err() == nil {
			t.Errorf("told %v", values)
		}
		if err := kv.Watch(ctx, c, kv.KeyRange("k"), func(kv.Event) bool { return true }); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "it has been enough") {
			t.Errorf("when its ctx is done: %v", err)
		}
		d.expect(t, "watches that end as they shall")
		time.AfterFunc(time.Second, func() { _ = c.Close() })
		if d := took(func() { err = kv.Watch(t.Context(), c, kv.KeyRange("k"), func(kv.Event) bool { return true }) }); !errors.Is(err, kv.ErrClosed) || d != time.Second {
			t.Errorf("amid Close: %v after %v", err, d)
		}
		if err := kv.Watch(t.Context(), c, kv.KeyRange("k"), func(kv.Event) bool { return true }); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		d.expect(t, "Close")
		c.WatchPrefix(t.Context(), "p/", func(string, any) bool { return true })
		d.expect(t, "after Close", `WARN msg="polykv: a watch ended" error="polykv: multi: WatchPrefix \"p/\": `)
	})
}

// A watch without a primary is interrupted again and again, and goes on with one.
func TestWatchWithoutAPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		c := p.open(patientConfig(), nil)
		put(t, p.plain[0], "k", "v")
		var events []string
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- kv.Watch(ctx, c, kv.PrefixRange(""), func(ev kv.Event) bool {
				if ev.Type == kv.Interrupted && !errors.Is(ev.Err, kv.ErrFenced) {
					t.Errorf("interrupted by %v", ev.Err)
				}
				events = append(events, fmt.Sprint(ev.Type, ev.Key))
				return true
			})
		}()
		time.Sleep(60 * time.Second)
		synctest.Wait()
		if n := len(events); n < 40 || n > 130 || events[0] != "interrupted" { // pauses of up to a second, give or take a half
			t.Errorf("in %v: %d events: %v", time.Since(began), n, events)
		}
		events = nil
		m, err := migrate.New(migrate.Backend{Name: "first", Client: p.plain[0]}, migrate.Backend{Name: "second", Client: p.plain[1]}, migrate.Options{})
		if err == nil {
			_, err = m.Start(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := len(events); n < 2 || !slices.Equal(events[n-2:], []string{"putk", "synced"}) {
			t.Errorf("with a primary: %v", events)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}

		n := 0
		p2 := newPair(t)
		if err := kv.Watch(t.Context(), p2.open(patientConfig(), nil), kv.PrefixRange(""), func(kv.Event) bool { n++; return false }); err != nil || n != 1 {
			t.Errorf("who has had enough after %d events: %v", n, err)
		}
	})
}

// A value that can't be decoded is told as such after a switch too, and logged.
func TestWatchOfWhatCannotBeDecoded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, d := newPair(t), &diary{}
		number := codec.JSON[int]{}
		cfg := multi.DefaultConfig()
		cfg.Mirror = false
		var backends []multi.Backend
		for i, s := range p.stores {
			backends = append(backends, multi.Backend{Name: fmt.Sprint("store", i), Client: kv.New(s.Open(), number, &kv.Options{Logger: quiet})})
		}
		c, err := multi.New(cfg, backends, multi.WithLogger(d.logger()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		put(t, p.plain[0], "a", "1")
		put(t, p.plain[0], "b", "2")
		put(t, p.plain[1], "a", "what?")
		var events []string
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- kv.Watch(ctx, c, kv.PrefixRange(""), func(ev kv.Event) bool {
				events = append(events, fmt.Sprint(ev.Type, " ", ev.Key, " ", ev.Value, " ", string(ev.Stored)))
				return true
			})
		}()
		told := func(what string, want ...string) {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			if !slices.Equal(events, want) {
				t.Errorf("%s: told %q, want %q", what, events, want)
			}
			events = nil
		}
		told("the first store", "put a 1 1", "put b 2 2", "synced  <nil> ")
		d.take()
		if err := c.SetPrimary(t.Context(), "store1"); err != nil {
			t.Fatal(err)
		}
		told("the second store", "undecodable a <nil> what?", "delete b <nil> ")
		d.expectAmong(t, "the second store", map[string]int{`WARN msg="polykv: a watched value was skipped" backend=multi key=a error=`: 1, "WARN": 1})
		if err := p.plain[1].Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		told("its deletion", "delete a <nil> ")
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		for e, err := range kv.Entries(t.Context(), c, "") {
			t.Errorf("%v, %v", e, err)
		}
		put(t, p.plain[1], "a", "1")
		put(t, p.plain[1], "b", "what?")
		put(t, p.plain[1], "c", "3")
		var listed []string
		for e, err := range kv.Entries(t.Context(), c, "") {
			listed = append(listed, fmt.Sprint(e.Key, " ", e.Value, " ", err == nil))
		}
		if !slices.Equal(listed, []string{"a 1 true", "b <nil> false", "c 3 true"}) {
			t.Errorf("listed %q", listed)
		}
	})
}

// A long listing of a coordinated client is confirmed every 500 entries, and goes on
// in another store where it was.
func TestLongListings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, reads := newRig(t), newClock()
		const keys = 1200
		for i := range keys {
			put(t, r.plain[0], fmt.Sprintf("k%04d", i), "v")
			put(t, r.plain[1], fmt.Sprintf("k%04d", i), "v")
		}
		c := r.clientOf(patientConfig(), func(at int, s driver.Store) driver.Store {
			if at == 1 {
				return s
			}
			return clocked{Store: s, prefix: side.RecordKey, gets: reads}
		})
		put(t, c, "k0000", "v")
		for prefix, want := range map[string]int{"": 3, "k0": 2, "k00": 1, "k000": 1, "none": 0} {
			reads.take()
			n := 0
			for _, err := range c.Entries(t.Context(), prefix) {
				if n++; err != nil {
					t.Fatal(err)
				}
			}
			if got := len(reads.take()); got != want {
				t.Errorf("%d entries below %q took %d reads of the record, want %d", n, prefix, got, want)
			}
		}
		n := 0
		var versions []kv.Version
		for e, err := range c.Entries(t.Context(), "") {
			if err != nil || e.Key != fmt.Sprintf("k%04d", n) {
				t.Fatalf("entry %d: %q, %v", n, e.Key, err)
			}
			if n++; n == 100 {
				r.cutover()
			}
			versions = append(versions, e.Version>>48)
		}
		if n != keys || versions[0] != 1 || versions[499] != 1 || versions[500] != 2 || versions[keys-1] != 2 {
			t.Errorf("%d entries, the last one of epoch %d", n, versions[n-1])
		}
	})
}

// A read that can't be confirmed fails with the caller's operation.
func TestReadsThatCannotBeConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var denied atomic.Bool
		c := r.clientOf(patientConfig(), func(at int, s driver.Store) driver.Store {
			if at == 1 {
				return s
			}
			return sometimes{s, &denied}
		})
		put(t, c, "k", "v")
		denied.Store(true)
		var e *kv.Error
		if keys, err := c.List(t.Context(), "p/"); len(keys) > 0 || !errors.Is(err, kv.ErrPermission) || !errors.As(err, &e) || e.Op != "List" || e.Key != "p/" {
			t.Errorf("List: %v, %v", keys, err)
		}
		items := 0
		for entry, err := range c.Entries(t.Context(), "") {
			if items++; entry.Key != "" || !errors.Is(err, kv.ErrPermission) || !errors.As(err, &e) || e.Op != "Entries" {
				t.Errorf("Entries: %v, %v", entry, err)
			}
		}
		if items != 1 {
			t.Errorf("%d items", items)
		}
		if got := get(t, c, "k"); got != "v" { // its own guard confirms it
			t.Errorf("a read gives %v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		interrupted := 0
		_ = kv.Watch(ctx, c, kv.PrefixRange(""), func(ev kv.Event) bool {
			if ev.Type != kv.Interrupted || !errors.Is(ev.Err, kv.ErrPermission) {
				t.Errorf("told %+v", ev)
			}
			interrupted++
			return true
		})
		if interrupted < 7 || interrupted > 35 {
			t.Errorf("%d interruptions in 10 s", interrupted)
		}
	})
}

// polykv's own keys are not mirrored, nor what writes decide not to do.
func TestWhatIsNotMirrored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, swaps := newPair(t), newClock()
		c := p.open(multi.DefaultConfig(), func(at int, s driver.Store) driver.Store {
			if at == 0 {
				return s
			}
			return clocked{Store: s, swaps: swaps, gets: swaps}
		})
		raw, err := kv.Raw(c)
		if err != nil {
			t.Fatal(err)
		}
		mine := errors.New("mine")
		for what, write := range map[string]func() error{
			"a reserved key": func() error {
				return raw.CAS(t.Context(), ".polykv/mine", func(any) (any, bool, error) { return []byte("v"), false, nil })
			},
			"its deletion": func() error { return raw.Delete(t.Context(), ".polykv/mine") },
			"nothing":      func() error { return c.CAS(t.Context(), "k", func(any) (any, bool, error) { return nil, false, nil }) },
			"nothing to remove": func() error {
				return c.CAS(t.Context(), "k", func(any) (any, bool, error) { return kv.Remove, false, nil })
			},
			"an error": func() error {
				if err := c.CAS(t.Context(), "k", func(any) (any, bool, error) { return "v", false, mine }); !errors.Is(err, mine) {
					return fmt.Errorf("it returned %w", err)
				}
				return nil
			},
			"fenced, says the callback": func() error {
				if err := c.CAS(t.Context(), "k", func(any) (any, bool, error) { return "v", false, kv.ErrFenced }); !errors.Is(err, kv.ErrFenced) {
					return fmt.Errorf("it returned %w", err)
				}
				return nil
			},
			"no key": func() error {
				if err := c.Delete(t.Context(), "a//b"); !errors.Is(err, kv.ErrInvalidKey) {
					return fmt.Errorf("it returned %w", err)
				}
				return nil
			},
			"a conflict": func() error {
				if _, err := c.SwapVersion(t.Context(), "k", 9, "v"); !errors.Is(err, kv.ErrConflict) {
					return fmt.Errorf("it returned %w", err)
				}
				return nil
			},
		} {
			if err := write(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			swaps.expect(t, what)
			if s := c.Status().Mirrors[1]; s.Mirrored != 0 || s.Backlog != 0 {
				t.Errorf("%s: %+v", what, s)
			}
		}
		p.wantEqual()
	})
}

// A write waits for a switch for as long as its ctx or the client lives.
func TestHowLongWritesWaitForASwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, swaps := newPair(t), newClock()
		cfg := multi.DefaultConfig()
		cfg.MirrorAsync = true
		c := p.open(cfg, denyingAt(1, swaps))
		swaps.refuses.Store(true)
		put(t, c, "k", "v")
		var switching sync.WaitGroup
		switching.Go(func() {
			if err := c.SetPrimary(t.Context(), "second"); !errors.Is(err, kv.ErrClosed) {
				t.Errorf("the switch ended with %v", err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		write := func(ctx context.Context, want error, after time.Duration) {
			t.Helper()
			var err error
			var e *kv.Error
			if d := took(func() { err = c.Delete(ctx, "k") }); !errors.Is(err, want) || d != after || !errors.As(err, &e) || e.Op != "Delete" || e.Key != "k" {
				t.Errorf("a write returned %v after %v", err, d)
			}
		}
		write(ctx, context.DeadlineExceeded, time.Second)
		time.AfterFunc(time.Second, func() { _ = c.Close() })
		write(t.Context(), kv.ErrClosed, time.Second)
		switching.Wait()
	})
}

// The limits are those of the primary.
func TestLimitsOfThePrimary(t *testing.T) {
	p := newPair(t)
	var backends []multi.Backend
	for i, s := range p.stores {
		backends = append(backends, multi.Backend{Name: fmt.Sprint("store", i), Client: kv.New(s.Open(), codec.String{}, &kv.Options{Logger: quiet, MaxValueSize: 1000 * (i + 1)})})
	}
	c, err := multi.New(multi.DefaultConfig(), backends, multi.WithLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, b := range backends {
		if err := c.SetPrimary(t.Context(), b.Name); err != nil {
			t.Fatal(err)
		}
		want, err := kv.LimitsOf(b.Client)
		if got, err2 := c.Limits(); got != want || err != nil || err2 != nil || got.Value != 1000*(i+1) {
			t.Errorf("%s: %+v, %v; want %+v, %v", b.Name, got, err2, want, err)
		}
	}
}
