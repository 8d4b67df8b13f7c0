package inmemory

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

// watcher runs one watch session and keeps what it emitted.
type watcher struct {
	cancel context.CancelFunc
	synced chan struct{}
	ended  chan error

	mu     sync.Mutex
	events []string
	hook   func(driver.Event) // called by emit
}

func startWatch(t *testing.T, h driver.Store, r driver.Range, hook func(driver.Event)) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{cancel: cancel, synced: make(chan struct{}), ended: make(chan error, 1), hook: hook}
	go func() { w.ended <- h.Watch(ctx, driver.WatchRequest{Range: r}, w.emit) }()
	t.Cleanup(cancel)
	return w
}

func (w *watcher) emit(e driver.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hook != nil {
		w.hook(e)
	}
	switch e.Type {
	case driver.Put:
		w.events = append(w.events, e.Entry.Key+"="+string(e.Entry.Value))
	case driver.Delete:
		w.events = append(w.events, e.Entry.Key+" deleted")
	case driver.Synced:
		w.events = append(w.events, "synced")
		close(w.synced)
	}
}

// expect compares all that was emitted until the watch ends.
func (w *watcher) expect(t *testing.T, want ...string) {
	t.Helper()
	receive(t, w.synced, "Synced")
	w.cancel()
	if err := receive(t, w.ended, "the watch to end"); !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
	if !reflect.DeepEqual(w.events, want) {
		t.Errorf("emitted %q, want %q", w.events, want)
	}
}

func TestWatch(t *testing.T) {
	h := NewStore().Open()
	for _, k := range []string{"b", "ab", "a", "aa", "abc"} {
		put(t, h, k, "0")
	}
	all := startWatch(t, h, driver.Range{IsPrefix: true}, nil)
	ab := startWatch(t, h, driver.Range{Key: "ab", IsPrefix: true}, nil)
	key := startWatch(t, h, driver.Range{Key: "ab"}, nil)
	absent := startWatch(t, h, driver.Range{Key: "abd"}, nil)
	for _, w := range []*watcher{all, ab, key, absent} {
		receive(t, w.synced, "Synced")
	}
	put(t, h, "ab", "1")
	remove(t, h, "abc")
	put(t, h, "b", "1")
	put(t, h, "abd", "1")
	remove(t, h, "ab")
	swap(t, h, driver.Swap{Key: "abd", Value: []byte("x"), ID: 1}, driver.Conflict) // changes nothing

	all.expect(t, "a=0", "aa=0", "ab=0", "abc=0", "b=0", "synced", "ab=1", "abc deleted", "b=1", "abd=1", "ab deleted")
	ab.expect(t, "ab=0", "abc=0", "synced", "ab=1", "abc deleted", "abd=1", "ab deleted")
	key.expect(t, "ab=0", "synced", "ab=1", "ab deleted")
	absent.expect(t, "synced", "abd=1")
	put(t, h, "ab", "2") // nobody watches
}

// A change that comes while the snapshot is emitted follows it.
func TestWatchCatchesUp(t *testing.T) {
	h := NewStore().Open()
	put(t, h, "a", "0")
	put(t, h, "b", "0")
	first := true
	w := startWatch(t, h, driver.Range{IsPrefix: true}, func(driver.Event) {
		if first {
			first = false
			put(t, h, "a", "1")
			put(t, h, "c", "0")
			remove(t, h, "b")
			put(t, h, "a", "2")
		}
	})
	w.expect(t, "a=0", "b=0", "synced", "a=1", "c=0", "b deleted", "a=2")
}

// What waits for a watch is bounded by the number of keys, and complete.
func TestWatchConflates(t *testing.T) {
	s := NewStore()
	h := s.Open()
	const keys, rounds = 3000, 10
	put(t, h, "first", "0")
	first := true
	ended := make(chan struct{})
	last := map[string]string{}
	var order []string
	rec := startWatch(t, h, driver.Range{IsPrefix: true}, func(e driver.Event) {
		if e.Type == driver.Put {
			last[e.Entry.Key] = string(e.Entry.Value)
			if string(e.Entry.Value) == fmt.Sprint(rounds-1) {
				order = append(order, e.Entry.Key)
			}
		}
		if e.Entry.Key == "end" {
			close(ended)
		}
		if !first {
			return
		}
		first = false
		for round := range rounds {
			for i := range keys {
				put(t, h, benchKey(i), fmt.Sprint(round))
			}
		}
		if n := s.feed.Backlog("any"); n > 2*keys || n < keys {
			t.Errorf("%d changes of %d keys are pending", n, keys)
		}
	})
	receive(t, rec.synced, "Synced")
	put(t, h, "end", "")
	receive(t, ended, "the last change")
	rec.cancel()
	_ = receive(t, rec.ended, "the watch to end")
	for i := range keys {
		if last[benchKey(i)] != fmt.Sprint(rounds-1) || order[i] != benchKey(i) {
			t.Fatalf("key %d: final state %q, in its place is %q", i, last[benchKey(i)], order[i])
		}
	}
}

// A watch that is in the middle of its snapshot ends promptly.
func TestWatchEndsDuringSnapshot(t *testing.T) {
	s, _ := filled(t, 20_000)
	for name, end := range map[string]func(*watcher, driver.Store){
		"cancel": func(w *watcher, _ driver.Store) { w.cancel() },
		"close":  func(_ *watcher, h driver.Store) { h.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			h := s.Open()
			n := 0
			var w *watcher
			started := make(chan struct{})
			w = startWatch(t, h, driver.Range{IsPrefix: true}, func(driver.Event) {
				if n++; n == 1 {
					<-started
					end(w, h)
				}
			})
			close(started)
			err := receive(t, w.ended, "the watch to end")
			if !errors.Is(err, context.Canceled) && !errors.Is(err, driver.ErrClosed) {
				t.Errorf("ended with %v", err)
			}
			if n > 1000 {
				t.Errorf("%d more events were emitted", n)
			}
		})
	}
}

// The end of a watch doesn't wait for another watch, whatever that does.
func TestWatchEndsBesideStuckWatch(t *testing.T) {
	h := NewStore().Open()
	stuck, free := make(chan struct{}), make(chan struct{})
	bad := startWatch(t, h, driver.Range{Key: "k"}, func(e driver.Event) {
		if e.Type == driver.Put {
			close(stuck)
			<-free
		}
	})
	good := startWatch(t, h, driver.Range{IsPrefix: true}, nil)
	receive(t, bad.synced, "Synced")
	receive(t, good.synced, "Synced")
	var writer sync.WaitGroup
	writer.Go(func() { put(t, h, "k", "v") })
	receive(t, stuck, "the write")

	good.cancel()
	_ = receive(t, good.ended, "the good watch to end")
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	bad.cancel()
	select {
	case err := <-bad.ended:
		t.Errorf("a watch returned while its emit runs: %v", err)
	default:
	}
	close(free)
	_ = receive(t, bad.ended, "the bad watch to end")
	writer.Wait()
	if len(good.events) != 1 {
		t.Errorf("the ended watch got %q", good.events)
	}
}

func TestWatchesLeaveNothingBehind(t *testing.T) {
	s := NewStore()
	h := s.Open()
	var watches []*watcher
	for i := range 50 {
		r := driver.Range{Key: benchKey(i % 10), IsPrefix: i%3 == 0}
		watches = append(watches, startWatch(t, h, r, nil))
	}
	for _, w := range watches {
		receive(t, w.synced, "Synced")
	}
	for i := range 10 {
		put(t, h, benchKey(i), "v")
	}
	for i := range watches { // in an order that moves watches about
		w := watches[i*7%50]
		w.cancel()
		_ = receive(t, w.ended, "the watch to end")
		if len(w.events) != 2 {
			t.Errorf("watch %d got %q", i*7%50, w.events)
		}
	}
	if n := s.feed.Watches(); n != 0 {
		t.Errorf("left: %d watches", n)
	}
}

// emit is never entered twice at a time, nor after Watch returned.
func TestWatchEmitIsExclusive(t *testing.T) {
	s, keys := filled(t, 100)
	h := s.Open()
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for g := range 3 {
		writers.Go(func() {
			for i := g; ; i++ {
				select {
				case <-stop:
					return
				default:
					put(t, h, keys[i%len(keys)], "v")
				}
			}
		})
	}
	for range 200 {
		ctx, cancel := context.WithCancel(ctx)
		var inside atomic.Int32
		var over atomic.Bool
		n := 0
		_ = h.Watch(ctx, driver.WatchRequest{Range: driver.Range{IsPrefix: true}}, func(driver.Event) {
			if inside.Add(1) != 1 {
				t.Error("emit was called twice at a time")
			}
			if over.Load() {
				t.Error("emit was called after Watch returned")
			}
			if n++; n == 150 {
				cancel()
			}
			inside.Add(-1)
		})
		over.Store(true)
		cancel()
	}
	close(stop)
	writers.Wait()
}
