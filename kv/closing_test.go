package kv_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// onErr is a ctx that does something when it is first asked for its error: the
// last thing that a call does before it begins its work.
type onErr struct {
	context.Context
	do func()
}

func (c *onErr) Err() error {
	c.do()
	return c.Context.Err()
}

// Close between the moment at which a call is let in and the moment at which it
// finds company, or starts a goroutine.
func TestCloseOnTheWayIn(t *testing.T) {
	for name, late := range map[string]func(ctx context.Context, c kv.Client) error{
		"CAS beside another": func(ctx context.Context, c kv.Client) error { return c.CAS(ctx, "k", increment) },
		"Watch":              func(ctx context.Context, c kv.Client) error { return watchNothing(ctx, c) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, kv.Options{})
			err := r.client.CAS(t.Context(), "k", func(any) (any, bool, error) {
				closing := &onErr{t.Context(), sync.OnceFunc(func() {
					if err := r.client.Close(); err != nil {
						t.Error(err)
					}
				})}
				if err := late(closing, r.client); !errors.Is(err, kv.ErrClosed) {
					t.Errorf("the late call: %v, want ErrClosed", err)
				}
				return "v", false, nil
			})
			if !errors.Is(err, kv.ErrClosed) {
				t.Errorf("CAS = %v, want ErrClosed", err)
			}
			r.want("k", nil)
		})
	}
}

func watchNothing(ctx context.Context, c kv.Client) error {
	return kv.Watch(ctx, c, kv.KeyRange("k"), func(kv.Event) bool { return true })
}

// local is a hooked store that is NonBlocking, so that Close waits for none of
// its requests.
type local struct{ *hooked }

func (local) NonBlocking() bool { return true }

// Close while a single call's swap loses, so that the call would go on in a
// group.
func TestCloseBeforeALoserFindsAGroup(t *testing.T) {
	data := inmemory.NewStore()
	store := &hooked{Store: data.Open()}
	c := kv.New(local{store}, stringCodec, nil)
	store.onSwap = func(context.Context, driver.Swap, func() (driver.Result, error)) (driver.Result, error) {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		return driver.Result{Outcome: driver.Conflict}, nil
	}
	if err := c.CAS(t.Context(), "k", increment); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("CAS = %v, want ErrClosed", err)
	}
	if n := store.swaps.Load(); n != 1 {
		t.Errorf("%d swaps", n)
	}
}

// unclosable is a driver whose Close fails.
type unclosable struct{ driver.Store }

func (u unclosable) Close() error { return errors.Join(errStop, u.Store.Close()) }

func TestCloseTellsTheDriversError(t *testing.T) {
	c := kv.New(unclosable{inmemory.NewStore().Open()}, stringCodec, &kv.Options{Backend: "b"})
	var e *kv.Error
	for range 2 {
		if err := c.Close(); !errors.Is(err, errStop) || !errors.As(err, &e) || e.Op != "Close" || e.Backend != "b" {
			t.Errorf("Close = %v", err)
		}
	}
}

// Answers that come at the last moment, when their group is about to go on
// without them, are counted once.
func TestCASAnswersAtTheLastMoment(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: time.Microsecond, ContentionTimeout: time.Minute})
	r.count(8, 300, r.own)
}

// pausesLogged collects the pauses before new watch sessions from the log.
type pausesLogged struct {
	slog.Handler
	mu     sync.Mutex
	pauses []time.Duration
}

func (p *pausesLogged) Enabled(context.Context, slog.Level) bool { return true }

func (p *pausesLogged) Handle(_ context.Context, r slog.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "after" {
			p.pauses = append(p.pauses, a.Value.Duration())
		}
		return true
	})
	return nil
}

// A session that was in step for a while before it failed is no sign that the
// trouble of before goes on.
func TestWatchPausesStartSmallAfterASessionThatWorked(t *testing.T) {
	const failures, shortest, longest = 10, 2 * time.Millisecond, 50 * time.Millisecond
	logged := &pausesLogged{Handler: slog.DiscardHandler}
	r := newRig(t, kv.Options{MinBackoff: shortest, MaxBackoff: longest, Logger: slog.New(logged)})
	ctx, cancel := context.WithCancel(t.Context())
	r.store.onWatch = func(ctx context.Context, _ driver.WatchRequest, emit func(driver.Event), _ func() error) error {
		switch r.store.watches.Load() {
		case failures + 1:
			emit(driver.Event{Type: driver.Synced})
			<-time.After(2 * longest) // it works for so long
		case failures + 2:
			cancel()
			return ctx.Err()
		}
		return errStop
	}
	if err := watchNothing(ctx, r.client); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	p := logged.pauses
	if len(p) < failures+1 { // one more if the watch learns of its end late
		t.Fatalf("%d pauses: %v", len(p), p)
	}
	if grown, after := p[failures-1], p[failures]; grown < longest/2 || after > shortest*3/2 {
		t.Errorf("pauses of %v before the session that worked, and %v after it", grown, after)
	}
}

// A server that accepts sessions and drops them at once sees ever fewer: that
// they were in step for a moment is no sign that the trouble is over (W6).
func TestWatchPausesGrowWhileSessionsAreDropped(t *testing.T) {
	const failures, shortest, longest = 8, 2 * time.Millisecond, time.Second
	logged := &pausesLogged{Handler: slog.DiscardHandler}
	r := newRig(t, kv.Options{MinBackoff: shortest, MaxBackoff: longest, Logger: slog.New(logged)})
	ctx, cancel := context.WithCancel(t.Context())
	r.store.onWatch = func(_ context.Context, _ driver.WatchRequest, emit func(driver.Event), _ func() error) error {
		emit(driver.Event{Type: driver.Synced})
		if r.store.watches.Load() > failures {
			cancel()
		}
		return errStop
	}
	if err := watchNothing(ctx, r.client); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	logged.mu.Lock()
	defer logged.mu.Unlock()
	if last := logged.pauses[failures-1]; last < 20*shortest {
		t.Errorf("pauses between sessions that are dropped at once: %v", logged.pauses)
	}
}
