package multi_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/multi"
)

func increment(in any) (any, bool, error) {
	n := 0
	if in != nil {
		var err error
		if n, err = strconv.Atoi(in.(string)); err != nil {
			return nil, false, err
		}
	}
	return strconv.Itoa(n + 1), false, nil
}

// Counters lose nothing and double nothing while the primary goes to and fro,
// and watches follow.
func TestSwitchingLosesNothing(t *testing.T) {
	p := newPair(t)
	c := p.open(multi.DefaultConfig(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	var last sync.Map
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		c.WatchPrefix(ctx, "", func(key string, value any) bool {
			n, _ := strconv.Atoi(fmt.Sprint(value))
			if before, ok := last.Swap(key, n); ok && before.(int) >= n {
				t.Errorf("%s went from %d to %v", key, before, value)
			}
			return true
		})
	}()
	const workers, keys = 8, 3
	var writers sync.WaitGroup
	var stop atomic.Bool
	var done [keys]atomic.Int64
	for w := range workers {
		writers.Go(func() {
			for i := w; !stop.Load(); i++ {
				k := i % keys
				if err := c.CAS(ctx, fmt.Sprint("counter", k), increment); err != nil {
					t.Error(err)
					return
				}
				done[k].Add(1)
			}
		})
	}
	for i := range 20 {
		if err := c.SetPrimary(t.Context(), []string{"second", "first"}[i%2]); err != nil {
			t.Fatal(err)
		}
		before := done[0].Load()
		eventually(t, "writes go on", func() bool { return done[0].Load() > before+5 })
	}
	stop.Store(true)
	writers.Wait()
	p.wantEqual()
	for k := range keys {
		key := fmt.Sprint("counter", k)
		want := strconv.FormatInt(done[k].Load(), 10)
		if got := get(t, c, key); got != want {
			t.Errorf("%s is %v after %s increments", key, got, want)
		}
		eventually(t, "the watch sees the end of "+key, func() bool {
			n, _ := last.Load(key)
			return fmt.Sprint(n) == want
		})
	}
	cancel()
	<-watching
}

// A switch waits for no callback: one that runs meanwhile is run again on the
// other store, and may itself be waiting for the switch.
func TestASwitchRunsCallbacksAgain(t *testing.T) {
	p := newPair(t)
	c := p.open(multi.DefaultConfig(), nil)
	put(t, c, "k", "1")
	calls := 0
	err := c.CAS(t.Context(), "k", func(in any) (any, bool, error) {
		calls++
		if calls == 1 {
			if err := c.SetPrimary(t.Context(), "second"); err != nil {
				return nil, false, err
			}
		}
		return in.(string) + "!", false, nil
	})
	if err != nil || calls != 2 {
		t.Errorf("the CAS returned %v after %d calls", err, calls)
	}
	if got := get(t, p.plain[1], "k"); got != "1!" {
		t.Errorf("the new primary holds %v", got)
	}
	p.wantEqual()
}

// A switch waits for writes under way and keeps the others waiting.
func TestASwitchWaitsForWritesUnderWay(t *testing.T) {
	p := newPair(t)
	var holding atomic.Bool
	inside, goOn := make(chan struct{}), make(chan struct{})
	c := p.open(multi.DefaultConfig(), func(at int, s driver.Store) driver.Store {
		if at == 1 {
			return s
		}
		return &hooked{Store: s, beforeSwap: func(driver.Swap) error {
			if holding.CompareAndSwap(true, false) {
				close(inside)
				<-goOn
			}
			return nil
		}}
	})
	holding.Store(true)
	var calls sync.WaitGroup
	calls.Go(func() { put(t, c, "k", "old") })
	<-inside
	func() {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := c.SetPrimary(ctx, "second"); !errors.Is(err, context.DeadlineExceeded) || c.Primary() != "first" {
			t.Errorf("a switch with a write under way returned %v; the primary is %q", err, c.Primary())
		}
	}()
	put(t, c, "other", "the gate is open again")
	calls.Go(func() {
		if err := c.SetPrimary(t.Context(), "second"); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the switch begins", func() bool { return c.Status().Phase == multi.PhaseSwitching })
	var wrote atomic.Bool
	calls.Go(func() {
		put(t, c, "later", "v")
		wrote.Store(true)
	})
	if wrote.Load() || c.Primary() != "first" {
		t.Error("the switch did not wait for the write under way")
	}
	close(goOn)
	calls.Wait()
	if got := get(t, p.plain[1], "later"); got != "v" || c.Primary() != "second" {
		t.Errorf("after the switch to %q the new primary has later=%v", c.Primary(), got)
	}
	p.wantEqual()
}

func TestUpdatesAtRunTime(t *testing.T) {
	p := newPair(t)
	updates := make(chan multi.Update)
	c := p.open(multi.DefaultConfig(), nil, multi.WithUpdates(updates))
	put(t, c, "k", "v")
	off := false
	updates <- multi.Update{Primary: "nobody"} // is logged
	updates <- multi.Update{Mirror: &off}
	updates <- multi.Update{Primary: "second"}
	eventually(t, "the primary is switched", func() bool { return c.Primary() == "second" })
	put(t, c, "k", "w")
	if got := get(t, p.plain[0], "k"); got != "v" {
		t.Errorf("a write was mirrored though mirroring is off: %v", got)
	}
	if err := c.SetPrimary(t.Context(), "nobody"); err == nil {
		t.Error("there is no store nobody")
	}
}

// A version of one store means nothing to the other one.
func TestVersionsDoNotOutliveASwitch(t *testing.T) {
	p := newPair(t)
	c := p.open(multi.DefaultConfig(), nil)
	put(t, c, "k", "v")
	put(t, c, "guard", "v")
	v, err := kv.Versioned(c)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]kv.Version{}
	for _, key := range []string{"k", "guard"} {
		if _, versions[key], err = v.GetVersion(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SetPrimary(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	guard := kv.Guard{Key: "guard", Version: versions["guard"]}
	if _, err := v.SwapVersion(t.Context(), "k", versions["k"], "w"); !errors.Is(err, kv.ErrConflict) {
		t.Errorf("a swap of a version of before returned %v", err)
	}
	if _, _, err := v.GetVersion(t.Context(), "k", guard); !errors.Is(err, kv.ErrFenced) {
		t.Errorf("a read under a guard of before returned %v", err)
	}
	if err := c.CASGuarded(t.Context(), "k", increment, guard); !errors.Is(err, kv.ErrFenced) {
		t.Errorf("a CAS under a guard of before returned %v", err)
	}
	_, now, err := v.GetVersion(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.SwapVersion(t.Context(), "k", now, "w"); err != nil {
		t.Errorf("a swap of the version that is returned %v", err)
	}
	p.wantEqual()
}

// A watch that moves to another store delivers what differs there, deletions
// included, nothing twice, and does not miss the deletion of a key whose value
// nobody could decode.
func TestWatchesMoveOver(t *testing.T) {
	p := newPair(t)
	off := multi.DefaultConfig()
	off.Mirror = false // so that the stores differ
	c := p.open(off, nil)
	for _, key := range []string{"same", "changed", "gone"} {
		put(t, p.plain[0], key, "v")
		put(t, p.plain[1], key, "v")
	}
	put(t, p.plain[1], "changed", "w")
	put(t, p.plain[1], "new", "v")
	if err := p.plain[1].Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan kv.Event, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- kv.Watch(ctx, c, kv.PrefixRange(""), func(ev kv.Event) bool { events <- ev; return true })
	}()
	want := func(typ kv.EventType, key string, value any) {
		t.Helper()
		select {
		case ev := <-events:
			if ev.Type != typ || ev.Key != key || ev.Value != value {
				t.Fatalf("got the event %v %q %v, want %v %q %v", ev.Type, ev.Key, ev.Value, typ, key, value)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("waited in vain for %v %q", typ, key)
		}
	}
	want(kv.Put, "changed", "v")
	want(kv.Put, "gone", "v")
	want(kv.Put, "same", "v")
	want(kv.Synced, "", nil)
	if err := c.SetPrimary(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	want(kv.Put, "changed", "w")
	want(kv.Put, "new", "v")
	want(kv.Delete, "gone", nil)
	put(t, p.plain[0], "same", "of the store that is primary no more")
	put(t, c, "same", "x")
	want(kv.Put, "same", "x")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch returned %v", err)
	}
}
