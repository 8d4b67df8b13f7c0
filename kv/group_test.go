package kv_test

import (
	"context"
	"errors"
	"slices"
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
		r.count(callers, each, r.own)
		if n := r.store.swaps.Load(); n > each*3/2 { // two groups make 2*each
			t.Errorf("%d callers that wrote %d times each made %d swaps", callers, each, n)
		}
	})
}

func TestCASGroupsCallers(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		return do()
	}
	results := make(chan error, 100)
	cas := func() error { return r.client.CAS(t.Context(), "n", increment) }
	release, first := gather(r, "n", cas, slices.Repeat([]func(){func() { results <- cas() }}, cap(results))...)
	release()
	if err := receive(t, "the first result", first); err != nil {
		t.Error(err)
	}
	for range cap(results) {
		if err := receive(t, "a result", results); err != nil {
			t.Error(err)
		}
	}
	r.want("n", "101")
	if n := r.store.swaps.Load(); n > 30 {
		t.Errorf("101 callers of one key took %d swaps; waiting callers should share them", n)
	}
}

// Who left during a round that failed leaves nobody behind who would wait: the
// next caller does not wait for a failure of others.
func TestFailureOfThoseWhoLeftHoldsNobodyUp(t *testing.T) {
	r := newRig(t, kv.Options{RetryTimeout: 24 * time.Hour, MinBackoff: time.Hour, MaxBackoff: time.Hour})
	inGroup, goOn := make(chan struct{}), make(chan struct{})
	gets := 0
	r.store.onGet = func(context.Context, driver.GetRequest) error {
		if gets++; gets == 2 { // the first is the leader's
			close(inGroup)
			<-goOn
		}
		return errLost
	}
	ctx, cancel := context.WithCancel(t.Context())
	left, next := make(chan error, 1), make(chan error, 1)
	go func() { left <- r.client.CAS(ctx, "n", increment) }()
	receive(t, "the group's read", inGroup)
	cancel()
	if err := receive(t, "the result of who left", left); !errors.Is(err, context.Canceled) {
		t.Errorf("CAS = %v", err)
	}
	r.store.unhooked.Store(true)
	close(goOn)
	go func() { next <- r.client.CAS(t.Context(), "n", increment) }()
	if err := receive(t, "the next result", next); err != nil {
		t.Error(err)
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
