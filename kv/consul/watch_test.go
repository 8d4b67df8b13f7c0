package consul

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

func TestWatchKey(t *testing.T) {
	s, p := openShared(t)
	key := p + "k"
	f := follow(t, s, driver.Range{Key: key})
	f.Sees(t, map[string]string{})
	drivertest.Put(t, s, key+"2", "not this one")
	first := drivertest.Put(t, s, key, "1")
	f.Sees(t, map[string]string{key: "1"})
	events := f.Events()
	if e := events[len(events)-1].Entry; e.Version != first.Version || *e.Meta.(*meta) != *first.Meta.(*meta) || e.Generation != first.Generation {
		t.Errorf("event %+v, written %+v", e, first)
	}
	drivertest.Remove(t, s, key)
	f.Sees(t, map[string]string{})
	drivertest.Put(t, s, key, "2")
	f.Sees(t, map[string]string{key: "2"})
	f.Stop()
	if err := f.Ends(t); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	late := follow(t, s, driver.Range{Key: key + "2"})
	late.Sees(t, map[string]string{key + "2": "not this one"})
	if n := len(f.Events()); n != 4 {
		t.Errorf("%d events: %v", n, f.Events())
	}
}

func TestWatchPrefix(t *testing.T) {
	s, p := openShared(t)
	want := map[string]string{}
	set := func(key, value string) { want[p+key] = value; drivertest.Put(t, s, p+key, value) }
	set("x/b", "1")
	set("x/a", "2")
	drivertest.Put(t, s, p+"y", "not in the range")
	f := follow(t, s, driver.Range{Key: p + "x", IsPrefix: true})
	f.Sees(t, want)
	events := f.Events()
	if got := []string{events[0].Entry.Key, events[1].Entry.Key}; !slices.IsSorted(got) || events[2].Type != driver.Synced {
		t.Errorf("%v", events)
	}
	set("x", "3")
	set("x/a", "4")
	set("x/c", "5")
	f.Sees(t, want)
	drivertest.Remove(t, s, p+"x/b")
	delete(want, p+"x/b")
	f.Sees(t, want)
	for key := range want {
		drivertest.Remove(t, s, key)
	}
	f.Sees(t, map[string]string{})
	set("x/b", "6")
	f.Sees(t, map[string]string{p + "x/b": "6"})
	if f.Synced() != 1 {
		t.Errorf("synced %d times", f.Synced())
	}
}

// Keys and prefixes that can't be in a path are watched by a shorter prefix.
func TestWatchStrangeKeys(t *testing.T) {
	s, p := openShared(t)
	for _, end := range strange {
		key := p + end
		f, g := follow(t, s, driver.Range{Key: key}), follow(t, s, driver.Range{Key: key, IsPrefix: true})
		f.IsSynced(t)
		g.IsSynced(t)
		drivertest.Put(t, s, key, end)
		f.Sees(t, map[string]string{key: end})
		drivertest.Put(t, s, key+"x", "")
		g.Sees(t, map[string]string{key: end, key + "x": ""})
		f.Sees(t, map[string]string{key: end})
		drivertest.Remove(t, s, key)
		f.Sees(t, map[string]string{})
		drivertest.Remove(t, s, key+"x")
		g.Sees(t, map[string]string{})
		f.Stop()
		g.Stop()
	}
}

// Nothing that happens while a session starts is missed, nothing older comes
// after it, and nothing comes twice.
func TestWatchHasNoGap(t *testing.T) {
	s, p := openShared(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("%s%d-%d", p, w, i%10)
				e := drivertest.Get(t, s, key)
				w := driver.Swap{Key: key, Prev: e, Value: []byte(strconv.Itoa(i)), ID: uint64(i + 1)}
				w.Remove = e.Exists() && i%7 == 0
				drivertest.Swap(t, s, w, driver.Applied)
			}
		})
	}
	var followers []*follower
	for i := range 20 {
		r := driver.Range{Key: p, IsPrefix: true}
		if i%2 == 1 {
			r = driver.Range{Key: fmt.Sprintf("%s%d-%d", p, i%4, i%10)}
		}
		f := follow(t, s, r)
		followers = append(followers, f)
		f.IsSynced(t)
	}
	stop()
	writers.Wait()
	all := map[string]string{}
	page, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: p})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Entries {
		all[e.Key] = string(e.Value)
	}
	for i, f := range followers {
		want := all
		if i%2 == 1 {
			key := fmt.Sprintf("%s%d-%d", p, i%4, i%10)
			want = map[string]string{}
			if value, ok := all[key]; ok {
				want[key] = value
			}
		}
		f.Sees(t, want)
	}
}

// Consul wakes who waits for an absent key, or in an empty range, for changes
// nearby.
func TestWatchOfNothingAmongChanges(t *testing.T) {
	s, p := openShared(t)
	drivertest.Put(t, s, p+"a", "") // so that there is a node of the tree to wait at
	ranges := []driver.Range{{Key: p + "absent"}, {Key: p + "empty/", IsPrefix: true}, {Key: p + "abs\u00a0ent"}}
	var followers []*follower
	for _, r := range ranges {
		f := follow(t, s, r)
		f.IsSynced(t)
		followers = append(followers, f)
	}
	start, writes := time.Now(), 0
	for ; time.Since(start) < 3*time.Second; writes++ {
		drivertest.Put(t, s, fmt.Sprintf("%sabsen%d", p, writes%50), strconv.Itoa(writes))
	}
	for i, f := range followers {
		// 8 while the pause doubles to a quarter of a second, 4 a second after,
		// 2 at the start; an empty listing takes two requests.
		n, most := f.requests.Load(), 2*int64(8+4*time.Since(start).Seconds()+2)
		t.Logf("%+v: %d requests during %d writes", ranges[i], n, writes)
		if n > most {
			t.Errorf("%+v: %d requests, at most %d expected", ranges[i], n, most)
		}
		if len(f.Events())-f.Count(driver.Progress) != 1 {
			t.Errorf("%+v: %v", ranges[i], f.Events())
		}
	}
	// Among changes, what does concern them still arrives soon.
	began := time.Now()
	for i, r := range ranges {
		drivertest.Put(t, s, r.Key, "v")
		followers[i].Sees(t, map[string]string{r.Key: "v"})
	}
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("seen after %v", d)
	}
}

// A watch ends at once when its ctx does, wherever it is.
func TestWatchEndsPromptly(t *testing.T) {
	s, p := openShared(t)
	for _, r := range []driver.Range{{Key: p + "k"}, {Key: p, IsPrefix: true}} {
		f := follow(t, s, r)
		f.IsSynced(t)
		drivertest.Eventually(t, func() error {
			if f.requests.Load() < 2 {
				return errors.New("not waiting")
			}
			return nil
		})
		f.Stop()
		if err := f.Ends(t); !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Watch(ctx, driver.WatchRequest{Range: r}, func(ev driver.Event) { t.Errorf("%v", ev) }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// An idle watch makes one request per wait time, and goes on from there. The server
// is its own: what others write wakes a watch of keys that don't exist.
func TestWatchAcrossWaits(t *testing.T) {
	t.Parallel()
	cfg := configFor(servertest.Consul(t, testserver.Options{}))
	cfg.WaitTime = time.Second
	s, p := openStore(t, cfg), drivertest.Unique(t)+"/"
	drivertest.Put(t, s, p+"k", "1")
	ranges := []driver.Range{{Key: p + "k"}, {Key: p, IsPrefix: true}, {Key: p + "absent"}, {Key: p + "empty", IsPrefix: true}}
	var followers []*follower
	for _, r := range ranges {
		followers = append(followers, follow(t, s, r))
	}
	for i, f := range followers {
		drivertest.Eventually(t, func() error {
			if n := f.requests.Load(); n < 5 {
				return fmt.Errorf("%+v: %d requests", ranges[i], n)
			}
			return nil
		})
	}
	for i, f := range followers {
		if n := f.requests.Load(); n > 10 {
			t.Errorf("%+v: %d requests", ranges[i], n)
		}
	}
	drivertest.Put(t, s, p+"k", "2")
	followers[0].Sees(t, map[string]string{p + "k": "2"})
	followers[1].Sees(t, map[string]string{p + "k": "2"})
	for i, f := range followers {
		if n := f.Count(driver.Restart); n > 0 || f.Synced() != 1 {
			t.Errorf("%+v: %d restarts, synced %d times", ranges[i], n, f.Synced())
		}
	}
}

// On an idle machine a change takes a few milliseconds.
func TestWatchIsPrompt(t *testing.T) {
	s, p := openShared(t)
	arrivals := map[string]chan time.Time{}
	for _, r := range []driver.Range{{Key: p + "k"}, {Key: p, IsPrefix: true}} {
		arrived := make(chan time.Time, 1000)
		arrivals[r.Key] = arrived
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.Watch(ctx, driver.WatchRequest{Range: r}, func(driver.Event) { arrived <- time.Now() })
		}()
		defer func() { cancel(); <-done }()
		<-arrived
	}
	delays := map[string][]time.Duration{}
	for i := range 50 {
		drivertest.Put(t, s, p+"k", strconv.Itoa(i))
		written := time.Now()
		for r, arrived := range arrivals {
			delays[r] = append(delays[r], (<-arrived).Sub(written))
		}
		time.Sleep(20 * time.Millisecond) // quiet
	}
	for r, d := range delays {
		slices.Sort(d)
		t.Logf("%s: median %v, 90%% within %v", r, d[len(d)/2], d[len(d)*9/10])
		if median := d[len(d)/2]; median > 20*time.Millisecond { // with room for a busy machine
			t.Errorf("%s: median %v", r, median)
		}
	}
}

// An idle watch costs its own goroutine and the two of its connection. Some
// connections are left over from when all watches started at once.
func TestManyIdleWatches(t *testing.T) {
	const n = 150
	s, p := openShared(t)
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	var watches, synced sync.WaitGroup
	for i := range n {
		synced.Add(1)
		watches.Go(func() {
			err := s.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: p + strconv.Itoa(i)}}, func(ev driver.Event) {
				if ev.Type != driver.Progress {
					synced.Done()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	synced.Wait()
	drivertest.Eventually(t, func() error {
		if got := runtime.NumGoroutine() - before; got > 3*n+2*s.cfg.MaxConns {
			return fmt.Errorf("%d goroutines for %d watches", got, n)
		}
		return nil
	})
	for i := range n {
		synced.Add(1)
		drivertest.Put(t, s, p+strconv.Itoa(i), "v")
	}
	synced.Wait()
	cancel()
	watches.Wait()
}
