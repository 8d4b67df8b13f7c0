package kv_test

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// Callers that call again as soon as they have their results share one swap,
// instead of taking turns in two groups.
func TestCASGroupsCallersThatComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{})
		r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
			time.Sleep(time.Millisecond) // a round trip
			return do()
		}
		const callers, each = 16, 50
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range each {
					if err := r.client.CAS(t.Context(), "n", increment); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		r.want("n", strconv.Itoa(callers*each))
		if n := r.store.swaps.Load(); n > each*3/2 { // two groups make 2*each
			t.Errorf("%d callers that wrote %d times each made %d swaps", callers, each, n)
		}
	})
}

func TestCASGroupsCallers(t *testing.T) {
	r := newRig(t, kv.Options{})
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		once.Do(func() { close(entered); <-release })
		return do()
	}
	var wg sync.WaitGroup
	cas := func() {
		if err := r.client.CAS(t.Context(), "n", increment); err != nil {
			t.Error(err)
		}
	}
	wg.Go(cas)
	receive(t, "first swap", entered)
	var started atomic.Int64
	for range 100 {
		wg.Go(func() { started.Add(1); cas() })
	}
	eventually(t, "all callers are under way", func() bool { return started.Load() == 100 })
	for range 1000 {
		runtime.Gosched()
	}
	close(release)
	wg.Wait()
	r.want("n", "101")
	if n := r.store.swaps.Load(); n > 30 {
		t.Errorf("101 callers of one key took %d swaps; waiting callers should share them", n)
	}
}

func TestCASPanicInAGroup(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: time.Hour})
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		return do()
	}
	panicked, last := make(chan any, 1), make(chan error, 1)
	release, first := gather(r, "n",
		func() error { return r.client.CAS(t.Context(), "n", increment) },
		func() {
			defer func() { panicked <- recover() }()
			_ = r.client.CAS(t.Context(), "n", func(any) (any, bool, error) { panic("mine") })
		},
		func() { last <- r.client.CAS(t.Context(), "n", increment) },
	)
	release()
	if got := receive(t, "panic", panicked); got != "mine" {
		t.Errorf("recovered %v", got)
	}
	for _, ch := range []<-chan error{first, last} {
		if err := receive(t, "result", ch); err != nil {
			t.Error(err)
		}
	}
	r.want("n", "2")
}

// gather holds the swap of a first call back until n more calls wait for the
// key, so that these make one group, whose swap then is swap number two.
func gather(r *rig, key string, first func() error, waiting ...func()) (release func(), result <-chan error) {
	r.t.Helper()
	held, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	inner := r.store.onSwap
	swaps := 0
	r.store.onSwap = func(ctx context.Context, s driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		if swaps++; swaps == 1 {
			close(held)
			<-goOn
			return do()
		}
		return inner(ctx, s, do)
	}
	go func() { done <- first() }()
	receive(r.t, "first swap", held)
	for i, start := range waiting {
		go start()
		eventually(r.t, "the caller waits", func() bool { return kv.QueueLen(r.client, key) == i+1 })
	}
	return func() { close(goOn) }, done
}
