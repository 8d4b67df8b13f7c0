package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testlog"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// paged answers listings as a test says, and notes how many entries they may have.
type paged struct {
	*hooked
	scan  func(ctx context.Context, n int) (driver.Page, error) // n counts from 0
	asked []int
}

func (p *paged) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	p.asked = append(p.asked, req.Limit)
	return p.scan(ctx, len(p.asked)-1)
}

// entries makes a page.
func entries(more bool, keys ...string) driver.Page {
	page := driver.Page{More: more}
	for _, key := range keys {
		page.Entries = append(page.Entries, driver.Entry{Key: key, Value: []byte("v"), Version: 1})
	}
	return page
}

// A page that doesn't come in time is asked for a quarter as large as it may be, or
// as the one before it was if that is less; one that fails, as large as before.
func TestPagesShrinkByQuarters(t *testing.T) {
	late := func(ctx context.Context) (driver.Page, error) { <-ctx.Done(); return driver.Page{}, ctx.Err() }
	for name, c := range map[string]struct {
		scan func(ctx context.Context, n int) (driver.Page, error)
		want []int
	}{
		"late at first": {func(ctx context.Context, n int) (driver.Page, error) {
			if n < 2 {
				return late(ctx)
			}
			return entries(false, "a"), nil
		}, []int{64, 16, 4}},
		"late after a small page": {func(ctx context.Context, n int) (driver.Page, error) {
			switch n {
			case 0:
				return entries(true, "a", "b", "c", "d", "e", "f", "g", "h"), nil
			case 1, 2, 3:
				return late(ctx)
			}
			return entries(false, "z"), nil
		}, []int{64, 64, 2, 1, 1}},
		"failing": {func(_ context.Context, n int) (driver.Page, error) {
			if n == 0 {
				return driver.Page{}, errLost
			}
			return entries(false, "a"), nil
		}, []int{64, 64}},
		"more of nothing": {func(context.Context, int) (driver.Page, error) { return entries(true), nil }, []int{64}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := &paged{hooked: newRig(t, kv.Options{}).store, scan: c.scan}
				client := kv.New(store, stringCodec, &kv.Options{ScanPage: 64, RetryTimeout: time.Hour, AttemptTimeout: time.Second})
				for _, err := range kv.Entries(t.Context(), client, "") {
					if err != nil {
						t.Error(err)
					}
				}
				if !slices.Equal(store.asked, c.want) {
					t.Errorf("pages of %v were asked for, want %v", store.asked, c.want)
				}
			})
		})
	}
}

// A listing that shows another history than what is remembered makes that void.
func TestListingShowsAnotherHistory(t *testing.T) {
	r := newRig(t, kv.Options{})
	store := &paged{hooked: r.store, scan: func(context.Context, int) (driver.Page, error) {
		return driver.Page{Generation: 7}, nil
	}}
	client := kv.New(store, stringCodec, nil)
	r.put(client, "k", "v")
	if entries, _ := kv.Remembered(client); entries != 1 {
		t.Errorf("%d entries are remembered", entries)
	}
	if _, err := client.List(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if entries, _ := kv.Remembered(client); entries != 0 {
		t.Errorf("%d entries of another history are remembered", entries)
	}
}

// Keys that no client could have written are passed over, in listings and watches.
func TestForeignKeysAreSkipped(t *testing.T) {
	r := newRig(t, kv.Options{})
	for i, key := range []string{"a", "a//b", "b/.polykv/c", "z"} {
		if _, err := r.data.Open().Swap(t.Context(), driver.Swap{Key: key, Value: []byte("v"), ID: uint64(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for entry, err := range kv.Entries(t.Context(), r.client, "") {
		if err != nil {
			t.Error(err)
		}
		keys = append(keys, entry.Key)
	}
	if !slices.Equal(keys, []string{"a", "z"}) {
		t.Errorf("the entries %q", keys)
	}
	wantCalls(t, watchPrefix(t, r.client, "", nil), call{"a", "v"}, call{"z", "v"})
}

// A store inside the process that fails is asked again, as any other.
func TestGetOfALocalStoreThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newRig(t, kv.Options{}).store
		store.onGet = func(context.Context, driver.GetRequest) error { return errLost }
		client := kv.New(localHooked{store}, stringCodec, nil)
		if v, err := client.Get(t.Context(), "k"); v != nil || !errors.Is(err, kv.ErrUnavailable) || store.gets.Load() < 3 {
			t.Errorf("Get = %v, %v after %d requests", v, err, store.gets.Load())
		}
	})
}

// Whose ctx is over asks for nothing.
func TestCallsUnderAnEndedContext(t *testing.T) {
	r := newRig(t, kv.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, errGet := r.client.Get(ctx, "k")
	errCAS := r.client.CAS(ctx, "k", func(any) (any, bool, error) { t.Error("called"); return "v", false, nil })
	for _, err := range []error{errGet, errCAS, r.client.Delete(ctx, "k")} {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if n := r.store.gets.Load() + r.store.swaps.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// A store may have no limits at all, and no guards.
func TestStoreWithoutLimits(t *testing.T) {
	client := kv.New(unlimited{newRig(t, kv.Options{}).store}, stringCodec, nil)
	if err := client.CAS(t.Context(), "k", set(strings.Repeat("v", 1000))); err != nil {
		t.Error(err)
	}
	if _, err := kv.Guarded(client); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("Guarded = %v", err)
	}
	if v, err := kv.Versioned(client); err != nil {
		t.Error(err)
	} else if _, _, err := v.GetVersion(t.Context(), "k", kv.Guard{Key: "g", Version: 1}); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("GetVersion under a guard = %v", err)
	}
	if p, err := kv.Prefix(client, "p/"); err != nil {
		t.Error(err)
	} else if err := p.CAS(t.Context(), "k", set("v")); err != nil {
		t.Error(err)
	}
}

// unlimited is a store that tells no limits.
type unlimited struct{ *hooked }

func (unlimited) Limits() driver.Limits { return driver.Limits{} }

func TestErrorsNameWhatFailed(t *testing.T) {
	for want, err := range map[string]*kv.Error{
		`polykv: etcd: CAS "k": stop`: {Op: "CAS", Backend: "etcd", Key: "k", Err: errStop},
		`polykv: CAS "k": stop`:       {Op: "CAS", Key: "k", Err: errStop},
		`polykv: etcd: Ping: stop`:    {Op: "Ping", Backend: "etcd", Err: errStop},
	} {
		if got := err.Error(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// An outage is told to the log once, and once more if it turns out to last, and
// when all watches have been in step for a second.
func TestOutagesInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Log
		store := &scripted{sessions: make(chan *session, 100), questions: make(chan *question)}
		client := kv.New(store, stringCodec, &kv.Options{CompareWatches: -1, Logger: slog.New(slog.NewTextHandler(&log, nil)), MaxBackoff: 50 * time.Millisecond, ShareBytes: -1})
		s := &stage{t: t, store: store, client: client}
		told := func(lines ...string) {
			t.Helper()
			synctest.Wait()
			got := strings.Split(strings.TrimSpace(log.String()), "\n")
			if len(got) != len(lines) {
				t.Fatalf("%d lines in the log, want %d:\n%s", len(got), len(lines), log.String())
			}
			for i, line := range lines {
				for word := range strings.FieldsSeq(line) {
					if !strings.Contains(got[i], word) {
						t.Errorf("line %d is %q, want %q in it", i, got[i], word)
					}
				}
			}
		}
		first, second := s.watch(a), s.watch(key)
		one, two := s.session(a), s.session(key)
		one.snapshot(1)
		two.snapshot(1)
		one.over <- errLost
		s.session(a).over <- errLost
		told("level=INFO lost")
		s.session(a).over <- driver.ErrPermission
		told("level=INFO lost", "level=WARN lost")
		one = s.session(a)
		two.over <- errLost
		two = s.session(key)
		one.snapshot(2)
		time.Sleep(time.Second * 3 / 5) // the other is still away
		told("level=INFO lost", "level=WARN lost")
		two.snapshot(2)
		time.Sleep(time.Second / 2)
		told("level=INFO lost", "level=WARN lost")
		two.over <- errLost // again, before it was over
		s.session(key).snapshot(3)
		time.Sleep(time.Second - 1)
		told("level=INFO lost", "level=WARN lost")
		time.Sleep(2 * time.Nanosecond)
		told("level=INFO lost", "level=WARN lost", "level=INFO again watches=3 failures=5")
		first.was("synced", errLost.Error(), driver.ErrPermission.Error(), "synced")
		second.was("synced", errLost.Error(), "synced", errLost.Error(), "synced")
		second.end()
		first.end()
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What a comparison costs is bounded: of a thousand keys that differ a hundred are
// read.
func TestComparisonReadsAHundredKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &astray{manyKeys: manyKeys{keys: 1000}}
		client := kv.New(store, stringCodec, &kv.Options{CompareWatches: time.Hour, ShareBytes: -1})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = kv.Watch(ctx, client, kv.PrefixRange("p/"), func(kv.Event) bool { return true })
		}()
		time.Sleep(2*time.Hour + compareGrace) // the first began after one to two hours, and took so long
		synctest.Wait()
		if n, reads := store.listings.Load(), store.reads; n != 1 || reads != 100 {
			t.Errorf("%d comparisons read %d keys", n, reads)
		}
		cancel()
		<-ended
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
}

// astray lists other versions than it tells, of every key.
type astray struct {
	manyKeys
	reads int
}

func (s *astray) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	page, err := s.manyKeys.Scan(ctx, req)
	for i := range page.Entries {
		page.Entries[i].Version += 1000
	}
	return page, err
}

func (s *astray) Get(_ context.Context, req driver.GetRequest) (driver.Entry, error) {
	s.reads++
	var i int
	_, err := fmt.Sscanf(req.Key, "p/%06d", &i)
	return s.entry(i), err
}

// Nothing is yielded after a loop has ended, also where keys are read one by one.
func TestEntriesOneByOneEndWithTheLoop(t *testing.T) {
	f := newFake("a", "b", "c")
	for entry, err := range kv.Entries(t.Context(), plain{f}, "") {
		if entry.Key != "a" || err != nil {
			t.Error(entry, err)
		}
		break
	}
	if asked := f.took(); !slices.Equal(asked, []string{"List ", "Get a"}) {
		t.Errorf("asked %q", asked)
	}
}

// A view of a prefix by another codec is one of that prefix.
func TestPrefixWithACodec(t *testing.T) {
	r := newRig(t, kv.Options{})
	prefixed, err := kv.Prefix(r.client, "p/")
	if err != nil {
		t.Fatal(err)
	}
	view, err := kv.WithCodec(prefixed, codec.Bytes{})
	if err != nil {
		t.Fatal(err)
	}
	if err := view.CAS(t.Context(), "k", func(any) (any, bool, error) { return []byte("v"), false, nil }); err != nil {
		t.Error(err)
	}
	r.want("p/k", "v")
}

// recoding has values of one more codec.
type recoding struct{ objects }

func (recoding) ValuesOf(c driver.Codec) (driver.Values, error) {
	if c.CodecID() != stringCodec.CodecID() {
		return nil, fmt.Errorf("%w: none of %s", driver.ErrNotSupported, c.CodecID())
	}
	return words{}, nil
}

func TestCodecsOfAStoreOfObjects(t *testing.T) {
	client := kv.New(recoding{objects{newRig(t, kv.Options{}).store}}, stringCodec, nil)
	if _, err := kv.WithCodec(client, codec.Bytes{}); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("WithCodec = %v", err)
	}
	view, err := kv.WithCodec(client, stringCodec)
	if err != nil {
		t.Fatal(err)
	}
	if err := view.CAS(t.Context(), "k", set("v")); err != nil {
		t.Error(err)
	}
}

// A follower tells that the store was lost also before it has seen all of it.
func TestFollowerIsInterruptedBeforeItIsComplete(t *testing.T) {
	play(t, kv.Options{}, func(s *stage) {
		f := kv.Follow(s.t.Context(), s.client, a)
		s.ends = append(s.ends, f.Close)
		changed := f.Changed()
		s.session(a).over <- errLost
		receive(t, "change", changed)
		if _, why := f.Behind(); !errors.Is(why, errLost) {
			t.Errorf("behind because of %v", why)
		}
		s.session(a)
	})
}

// What a prefix asks of the client beneath it, that must be able to answer.
func TestPrefixOfAClientThatTellsNoLimits(t *testing.T) {
	f := newFake()
	f.limits = kv.Limits{}
	p, err := kv.Prefix(f, "p/")
	if err != nil {
		t.Fatal(err)
	}
	g, err := kv.Guarded(p)
	if err != nil {
		t.Fatal(err)
	}
	f.took()
	if err := g.CASGuarded(t.Context(), "/", set("v"), kv.Guard{Key: "g", Version: 1}); !errors.Is(err, kv.ErrInvalidKey) || len(f.took()) > 0 {
		t.Errorf("CASGuarded of no key = %v", err)
	}
}
