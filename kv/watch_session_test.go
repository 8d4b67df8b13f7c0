package kv_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/testlog"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// sessions makes watch sessions end when the test says so.
func breakable(r *rig) (breakNow chan error) {
	breakNow = make(chan error)
	r.store.onWatch = func(ctx context.Context, _ driver.WatchRequest, emit func(driver.Event), _ func() error) error {
		sessionCtx, cancel := context.WithCancel(ctx)
		defer cancel()
		ended := make(chan error, 1)
		rng := driver.WatchRequest{Range: driver.Range{IsPrefix: true}}
		go func() { ended <- r.store.Store.Watch(sessionCtx, rng, emit) }()
		select {
		case err := <-breakNow:
			cancel()
			return errors.Join(err, <-ended)
		case err := <-ended:
			return err
		}
	}
	return breakNow
}

// A store that refuses a watch is somebody's to mend, who is told once at WARN,
// and again if it refuses after the watch had worked.
func TestWatchWarnsOnceOfPermission(t *testing.T) {
	var log testlog.Log
	r := newRig(t, kv.Options{MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	var refused atomic.Int64
	refused.Store(3)
	breakNow := breakable(r)
	session := r.store.onWatch
	r.store.onWatch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event), do func() error) error {
		if n := refused.Add(-1); n >= 0 {
			if n == 1 {
				return errors.New("the server is away")
			}
			return fmt.Errorf("%w: wrong password", driver.ErrPermission)
		}
		return session(ctx, req, emit, do)
	}
	r.put(r.other, "k", "1")
	calls := watchPrefix(t, r.client, "", nil)
	wantCalls(t, calls, call{"k", "1"})
	warnings := func() int { return strings.Count(log.String(), "level=WARN") }
	if warnings() != 1 || strings.Count(log.String(), "session ended and starts again") != 3 {
		t.Errorf("%d warnings in\n%s", warnings(), log.String())
	}
	refused.Store(3)
	breakNow <- errors.New("the connection is lost")
	deadline := time.Now().Add(30 * time.Second)
	for strings.Count(log.String(), "session ended and starts again") < 7 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if warnings() != 2 || strings.Count(log.String(), "session ended and starts again") != 7 {
		t.Errorf("%d warnings in\n%s", warnings(), log.String())
	}
}

func TestWatchResynchronises(t *testing.T) {
	r := newRig(t, kv.Options{})
	breakNow := breakable(r)
	may, over, session := make(chan struct{}, 1), make(chan struct{}, 2), r.store.onWatch
	r.store.onWatch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event), do func() error) error {
		select {
		case <-may:
			defer func() { over <- struct{}{} }()
			return session(ctx, req, emit, do)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	may <- struct{}{}
	for _, key := range []string{"changed", "deleted", "recreated", "same"} {
		r.put(r.other, key, "1")
	}
	calls := watchPrefix(t, r.client, "", nil)
	wantCalls(t, calls, call{"changed", "1"}, call{"deleted", "1"}, call{"recreated", "1"}, call{"same", "1"})
	breakNow <- errors.New("compacted")
	receive(t, "end of the session", over) // which may still emit what happens before
	// No session runs meanwhile, so all of this is missed.
	r.put(r.other, "changed", "2")
	for _, key := range []string{"deleted", "recreated"} {
		if err := r.other.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	r.put(r.other, "recreated", "1")
	r.put(r.other, "created", "1")
	r.put(r.other, "short-lived", "1")
	if err := r.other.Delete(t.Context(), "short-lived"); err != nil {
		t.Fatal(err)
	}
	may <- struct{}{}
	got := map[call]int{}
	for range 3 {
		got[receive(t, "call", calls)]++
	}
	r.put(r.other, "marker", "m")
	wantCalls(t, calls, call{"marker", "m"})
	for _, want := range []call{{"changed", "2"}, {"deleted", nil}, {"created", "1"}} {
		if got[want] != 1 {
			t.Errorf("after the gap the watch delivered %v, %v is missing", got, want)
		}
	}
}

func TestWatchBacksOffWhileTheStoreIsAway(t *testing.T) {
	r := newRig(t, kv.Options{MinBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond})
	var away atomic.Bool
	away.Store(true)
	r.store.onWatch = func(_ context.Context, _ driver.WatchRequest, _ func(driver.Event), do func() error) error {
		if away.Load() {
			return errors.New("away")
		}
		return do()
	}
	start := time.Now()
	calls := watchPrefix(t, r.client, "", nil)
	eventually(t, "it tries again and again", func() bool { return r.store.watches.Load() >= 5 })
	most := 1 + time.Since(start).Milliseconds()*2/5 // half of the first pause is the least there is
	if n := r.store.watches.Load(); n > most {
		t.Errorf("%d sessions in %v", n, time.Since(start))
	}
	r.put(r.other, "k", "v")
	away.Store(false)
	wantCalls(t, calls, call{"k", "v"})
}

// Keys read by a first session that broke off are delivered sorted with those
// of the second.
func TestWatchFirstSnapshotIsSortedThroughAnInterruption(t *testing.T) {
	r := newRig(t, kv.Options{MinBackoff: time.Millisecond})
	r.put(r.other, "b", "1")
	r.store.onWatch = func(_ context.Context, _ driver.WatchRequest, emit func(driver.Event), do func() error) error {
		if r.store.watches.Load() == 1 {
			emit(driver.Event{Type: driver.Put, Entry: driver.Entry{Key: "b", Value: []byte("0"), Version: 1}})
			emit(driver.Event{Type: driver.Put, Entry: driver.Entry{Key: "c", Value: []byte("0"), Version: 2}})
			return errors.New("broke off")
		}
		return do()
	}
	r.put(r.other, "a", "1")
	calls := watchPrefix(t, r.client, "", nil)
	r.put(r.other, "z", "1")
	wantCalls(t, calls, call{"a", "1"}, call{"b", "1"})
}

func TestWatchRestartWithinASession(t *testing.T) {
	r := newRig(t, kv.Options{})
	next := make(chan []driver.Entry)
	r.store.onWatch = func(ctx context.Context, _ driver.WatchRequest, emit func(driver.Event), _ func() error) error {
		for {
			select {
			case entries := <-next:
				emit(driver.Event{Type: driver.Restart})
				for _, entry := range entries {
					emit(driver.Event{Type: driver.Put, Entry: entry})
				}
				emit(driver.Event{Type: driver.Synced})
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	events := watchEvents(t, r.client)
	next <- []driver.Entry{{Key: "a", Value: []byte("1"), Version: 1}, {Key: "b", Value: []byte("1"), Version: 2}}
	events.want(kv.Put, "a")
	events.want(kv.Put, "b")
	events.want(kv.Synced, "")
	next <- []driver.Entry{{Key: "b", Value: []byte("2"), Version: 3}}
	events.want(kv.Put, "b")
	events.want(kv.Delete, "a")
	next <- []driver.Entry{{Key: "b", Value: []byte("3"), Version: 4}}
	events.want(kv.Put, "b") // and no Synced before it, since nothing was interrupted
}

// A blocked callback finds each kind of marker at most once.
func TestWatchMarkersDoNotAddUp(t *testing.T) {
	r := newRig(t, kv.Options{MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond})
	breakNow := breakable(r)
	entered, release := make(chan struct{}), make(chan struct{})
	seen := make(chan kv.Event, 100)
	go func() {
		_ = kv.Watch(t.Context(), r.client, kv.PrefixRange(""), func(ev kv.Event) bool {
			seen <- ev
			if ev.Type == kv.Put && ev.Value == "hold" {
				close(entered)
				<-release
			}
			return ev.Value != "end"
		})
		close(seen)
	}()
	r.put(r.other, "k", "hold")
	receive(t, "blocked callback", entered)
	for range 20 {
		breakNow <- errors.New("again")
	}
	r.put(r.other, "k", "end")
	close(release)
	markers := 0
	for ev := range seen {
		if ev.Type == kv.Interrupted || ev.Type == kv.Synced {
			markers++
		}
	}
	if markers > 4 { // one Synced before, and perhaps a pair after the others
		t.Errorf("20 interruptions under a blocked callback made %d markers", markers)
	}
}
