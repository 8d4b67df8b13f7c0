package kv_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

var errStop = errors.New("stop")

// Where a call is when its ctx ends or its client closes.
var phases = map[string]func(r *rig, reached chan<- struct{}, release <-chan struct{}) func(any) (any, bool, error){
	"reading": func(r *rig, reached chan<- struct{}, _ <-chan struct{}) func(any) (any, bool, error) {
		r.store.onGet = func(ctx context.Context, _ driver.GetRequest) error {
			reached <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		return increment
	},
	"in the callback": func(_ *rig, reached chan<- struct{}, release <-chan struct{}) func(any) (any, bool, error) {
		return func(in any) (any, bool, error) {
			reached <- struct{}{}
			<-release
			return increment(in)
		}
	},
	"in backoff after a refusal": func(_ *rig, reached chan<- struct{}, _ <-chan struct{}) func(any) (any, bool, error) {
		return func(any) (any, bool, error) {
			reached <- struct{}{}
			return nil, true, errStop
		}
	},
	"in backoff after a failure": func(r *rig, reached chan<- struct{}, _ <-chan struct{}) func(any) (any, bool, error) {
		r.store.onGet = func(context.Context, driver.GetRequest) error {
			select {
			case reached <- struct{}{}:
			default:
			}
			return errors.New("try again")
		}
		return increment
	},
	"swapping": func(r *rig, reached chan<- struct{}, _ <-chan struct{}) func(any) (any, bool, error) {
		r.store.onSwap = func(ctx context.Context, _ driver.Swap, _ func() (driver.Result, error)) (driver.Result, error) {
			reached <- struct{}{}
			<-ctx.Done()
			return driver.Result{}, ctx.Err()
		}
		return increment
	},
}

// reach starts a CAS and waits until it is in the given phase.
func reach(ctx context.Context, r *rig, phase string, release <-chan struct{}) <-chan error {
	reached := make(chan struct{}, 100)
	f := phases[phase](r, reached, release)
	result := make(chan error, 1)
	go func() { result <- r.client.CAS(ctx, "n", f) }()
	receive(r.t, "phase", reached)
	return result
}

func TestContextEndsInEachPhase(t *testing.T) {
	cause := errors.New("the caller's own cause")
	for phase := range phases {
		t.Run(phase, func(t *testing.T) {
			r := newRig(t, kv.Options{RetryTimeout: time.Hour, AttemptTimeout: time.Hour, MinBackoff: time.Hour, MaxBackoff: time.Hour})
			ctx, cancel := context.WithCancelCause(t.Context())
			release := make(chan struct{})
			result := reach(ctx, r, phase, release)
			cancel(cause)
			close(release)
			err := receive(t, "result", result)
			if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
				t.Errorf("CAS = %v, want context.Canceled and its cause", err)
			}
			if sent := phase == "swapping"; errors.Is(err, kv.ErrIndeterminate) != sent {
				t.Errorf("CAS = %v; ErrIndeterminate belongs to it if and only if the swap was sent", err)
			}
			r.store.unhooked.Store(true)
			r.put(r.client, "n", "usable")
		})
	}
}

func TestCloseInEachPhase(t *testing.T) {
	for phase := range phases {
		t.Run(phase, func(t *testing.T) {
			r := newRig(t, kv.Options{RetryTimeout: time.Hour, AttemptTimeout: time.Hour, MinBackoff: time.Hour, MaxBackoff: time.Hour})
			release := make(chan struct{})
			result := reach(t.Context(), r, phase, release)
			if err := r.client.Close(); err != nil { // it does not wait for the callback
				t.Error(err)
			}
			close(release)
			err := receive(t, "result", result)
			if !errors.Is(err, kv.ErrClosed) || errors.Is(err, context.Canceled) {
				t.Errorf("CAS = %v, want ErrClosed and nothing about a context", err)
			}
			if sent := phase == "swapping"; errors.Is(err, kv.ErrIndeterminate) != sent {
				t.Errorf("CAS = %v; ErrIndeterminate belongs to it if and only if the swap was sent", err)
			}
		})
	}
}

// A member whose ctx ends before the group's swap is sent takes its write
// along; the others' stays.
func TestMemberLeavesItsGroup(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: time.Hour})
	held, release := make(chan struct{}), make(chan struct{})
	first := true
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		if first {
			first = false
			close(held)
			<-release
		}
		return do()
	}
	results := make(chan error, 2)
	go func() { results <- r.client.CAS(t.Context(), "n", increment) }()
	receive(t, "first swap", held)

	ctx, cancel := context.WithCancel(t.Context())
	leaver := make(chan error, 1)
	go func() { leaver <- r.client.CAS(ctx, "n", increment) }()
	eventually(t, "the leaver waits", func() bool { return kv.QueueLen(r.client, "n") == 1 })
	inCallback, goOn := make(chan struct{}), make(chan struct{})
	go func() {
		entered := false
		results <- r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
			if !entered {
				entered = true
				close(inCallback)
				<-goOn
			}
			return increment(in)
		})
	}()
	eventually(t, "both wait", func() bool { return kv.QueueLen(r.client, "n") == 2 })
	close(release)
	receive(t, "callback after the leaver's", inCallback)
	cancel()
	if err := receive(t, "leaver's result", leaver); !errors.Is(err, context.Canceled) || errors.Is(err, kv.ErrIndeterminate) {
		t.Errorf("the leaver got %v, want context.Canceled alone: nothing was sent", err)
	}
	close(goOn)
	for range 2 {
		if err := receive(t, "result", results); err != nil {
			t.Error(err)
		}
	}
	r.want("n", "2")
}

func TestRetriesUntilTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{RetryTimeout: 50 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond})
		r.put(r.other, "n", "1")
		away := errors.New("the server is away")
		failures := 3
		r.store.onGet = func(context.Context, driver.GetRequest) error {
			if failures--; failures >= 0 {
				return away
			}
			return nil
		}
		if v, err := r.client.Get(t.Context(), "n"); v != "1" || err != nil {
			t.Errorf("Get = %v, %v after three failures", v, err)
		}
		failures = 1 << 30
		calls := map[string]func() error{
			"Get":    func() error { _, err := r.client.Get(t.Context(), "n"); return err },
			"CAS":    func() error { return r.client.CAS(t.Context(), "n", increment) },
			"Delete": func() error { return r.client.Delete(t.Context(), "n") },
		}
		for name, call := range calls {
			before := r.store.gets.Load()
			if err := call(); !errors.Is(err, kv.ErrUnavailable) || !errors.Is(err, away) {
				t.Errorf("%s = %v, want ErrUnavailable and its cause", name, err)
			}
			if n := r.store.gets.Load() - before; n < 2 || n > 60 {
				t.Errorf("%s made %d requests in 50 ms with a backoff of 1 to 5 ms", name, n)
			}
		}
		before := r.store.gets.Load()
		r.store.onGet = func(context.Context, driver.GetRequest) error { return driver.ErrPermission }
		if _, err := r.client.Get(t.Context(), "n"); !errors.Is(err, kv.ErrPermission) || r.store.gets.Load() != before+1 {
			t.Errorf("a refusal must not be retried: %v after %d requests", err, r.store.gets.Load()-before)
		}
	})
}

func TestSwapsProvenNotAppliedAreRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{RetryTimeout: 50 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond})
		away := errors.New("the server is away")
		failures := 3
		r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
			if failures--; failures >= 0 {
				return driver.Result{Outcome: driver.NotApplied}, away
			}
			return do()
		}
		r.put(r.client, "n", "1") // a create, which may not be repeated when its outcome is unknown
		r.want("n", "1")
		failures = 1 << 30
		err := r.client.CAS(t.Context(), "n", increment)
		if !errors.Is(err, kv.ErrUnavailable) || errors.Is(err, kv.ErrIndeterminate) {
			t.Errorf("CAS = %v, want ErrUnavailable for certain", err)
		}
		r.want("n", "1")
	})
}

// A request that hangs must end by AttemptTimeout, and its deadline must not
// look like the caller's.
func TestAttemptTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{AttemptTimeout: 5 * time.Millisecond, RetryTimeout: 50 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond})
		r.store.onGet = func(ctx context.Context, _ driver.GetRequest) error {
			<-ctx.Done()
			return ctx.Err()
		}
		_, err := r.client.Get(t.Context(), "n")
		if !errors.Is(err, kv.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("Get = %v, want ErrUnavailable alone", err)
		}
	})
}

func TestAfterClose(t *testing.T) {
	r := newRig(t, kv.Options{})
	for range 2 {
		if err := r.client.Close(); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := kv.Raw(r.client)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Get":    func() error { _, err := r.client.Get(ctx, "k"); return err },
		"List":   func() error { _, err := r.client.List(ctx, ""); return err },
		"CAS":    func() error { return r.client.CAS(ctx, "k", increment) },
		"Delete": func() error { return r.client.Delete(ctx, "k") },
		"Ping":   func() error { return kv.Ping(ctx, r.client) },
		"Watch":  func() error { return kv.Watch(ctx, r.client, kv.PrefixRange(""), nil) },
		"raw":    func() error { _, err := raw.Get(ctx, "k"); return err },
		"Entries": func() error {
			for _, err := range kv.Entries(ctx, r.client, "") {
				return err
			}
			return nil
		},
	} {
		if err := call(); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s after Close: %v, want ErrClosed", name, err)
		}
	}
	r.client.WatchKey(ctx, "k", nil) // returns
}

func TestCallbackMayClose(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.client, "k", "v")
	err := r.client.CAS(t.Context(), "k", func(any) (any, bool, error) {
		if err := r.client.Close(); err != nil {
			t.Error(err)
		}
		return "w", false, nil
	})
	if !errors.Is(err, kv.ErrClosed) {
		t.Errorf("CAS = %v", err)
	}
	r.want("k", "v")
	r.other.WatchKey(t.Context(), "k", func(any) bool {
		if err := r.other.Close(); err != nil {
			t.Error(err)
		}
		return true
	})
}

func TestNewRefusesMistakes(t *testing.T) {
	store := inmemory.NewStore().Open()
	t.Cleanup(func() { _ = store.Close() })
	for name, try := range map[string]func(){
		"no store": func() { kv.New(nil, stringCodec, nil) },
		"no codec": func() { kv.New(store, nil, nil) },
		"options":  func() { kv.New(store, stringCodec, &kv.Options{RetryTimeout: -1}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: New accepted it", name)
				}
			}()
			try()
		}()
	}
}
