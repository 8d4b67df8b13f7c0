package kv_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func TestCASBlockedCallbackHoldsNobodyUp(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: 10 * time.Millisecond})
	release, blocked := make(chan struct{}), make(chan struct{})
	slow := make(chan error, 1)
	var once sync.Once
	go func() {
		slow <- r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
			once.Do(func() { close(blocked); <-release })
			return increment(in)
		})
	}()
	receive(t, "blocked callback", blocked)
	for range 20 {
		if err := r.client.CAS(t.Context(), "n", increment); err != nil {
			t.Fatal(err)
		}
	}
	r.want("n", "20")
	close(release)
	if err := receive(t, "end of the slow call", slow); err != nil {
		t.Error(err)
	}
	r.want("n", "21")
}

// A callback slower than any patience succeeds when nobody changes the key.
func TestCASSlowCallbackSucceedsAmongDecliners(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: time.Millisecond})
	r.put(r.client, "n", "0")
	inCallback, release := make(chan struct{}), make(chan struct{})
	slow := make(chan error, 1)
	runs := 0
	go func() {
		slow <- r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
			runs++
			close(inCallback) // panics if it runs twice
			<-release
			return increment(in)
		})
	}()
	receive(t, "slow callback", inCallback)
	for range 5 {
		if err := r.client.CAS(t.Context(), "n", func(any) (any, bool, error) { return nil, false, nil }); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	if err := receive(t, "end of the slow call", slow); err != nil || runs != 1 {
		t.Errorf("CAS = %v after %d runs", err, runs)
	}
	r.want("n", "1")
}

// The same within a group.
func TestCASSlowMemberSucceedsAmongDecliners(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: time.Millisecond})
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		return do()
	}
	inCallback, goOn := make(chan struct{}), make(chan struct{})
	decline := func(any) (any, bool, error) { return nil, false, nil }
	slow, declined := make(chan error, 1), make(chan error, 1)
	release, first := gather(r, "n",
		func() error { return r.client.CAS(t.Context(), "n", increment) },
		func() {
			slow <- r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
				close(inCallback) // panics if it runs twice
				<-goOn
				return increment(in)
			})
		},
		func() { declined <- r.client.CAS(t.Context(), "n", decline) },
	)
	release()
	receive(t, "slow callback", inCallback)
	for _, ch := range []<-chan error{first, declined} {
		if err := receive(t, "result", ch); err != nil {
			t.Error(err)
		}
	}
	close(goOn)
	if err := receive(t, "end of the slow call", slow); err != nil {
		t.Error(err)
	}
	r.want("n", "2")
}

// What an evicted callback decided on another member's write, which was then
// taken back, must not reach the store.
func TestCASEvictedDecisionOnATakenBackWrite(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: 100 * time.Millisecond})
	r.put(r.client, "n", "0")
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		return do()
	}
	ctx, cancel := context.WithCancel(t.Context())
	slowIn, slowGo, lastIn, lastGo := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	blocking := func(in, goOn chan struct{}) func(any) (any, bool, error) {
		var once sync.Once
		return func(value any) (any, bool, error) {
			once.Do(func() { close(in); <-goOn })
			return increment(value)
		}
	}
	leaver, slow, last := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	release, first := gather(r, "n",
		func() error { return r.client.CAS(t.Context(), "n", increment) },
		func() { leaver <- r.client.CAS(ctx, "n", increment) },
		func() { slow <- r.client.CAS(t.Context(), "n", blocking(slowIn, slowGo)) },
		func() { last <- r.client.CAS(t.Context(), "n", blocking(lastIn, lastGo)) },
	)
	release()
	receive(t, "the slow callback", slowIn)
	receive(t, "the last callback, after the eviction of the slow one", lastIn)
	cancel()
	leaverErr := receive(t, "the leaver's result", leaver)
	close(slowGo)
	slowErr := receive(t, "the slow call's result", slow)
	close(lastGo)
	for _, err := range []error{slowErr, receive(t, "result", last), receive(t, "result", first)} {
		if err != nil {
			t.Error(err)
		}
	}
	got, err := r.other.Get(t.Context(), "n")
	if maybe := leaverErr == nil || errors.Is(leaverErr, kv.ErrIndeterminate); err != nil || got != "3" && !(maybe && got == "4") {
		t.Errorf("three increments succeeded and one ended with %v; the counter is %v, %v", leaverErr, got, err)
	}
}

// A callback that needs longer than SlowCallback gets through a busy key,
// since its patience grows.
func TestCASPatienceGrows(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: 2 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := r.client.CAS(t.Context(), "n", increment); err != nil {
					t.Error(err)
				}
			}
		})
	}
	err := r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
		time.Sleep(20 * time.Millisecond) // the callback's own work
		return increment(in)
	})
	stop()
	wg.Wait()
	if err != nil {
		t.Error(err)
	}
}

// Each member of a group has the whole of its patience, however long those
// before it took.
func TestCASPatienceIsEachCallbacksOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = 100 * time.Millisecond
		r := newRig(t, kv.Options{SlowCallback: patience})
		r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
			return do()
		}
		var callbacks atomic.Int64
		results := make(chan error, 3)
		member := func() {
			results <- r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
				callbacks.Add(1)
				time.Sleep(patience * 6 / 10) // two take longer than one may
				return increment(in)
			})
		}
		release, first := gather(r, "n", func() error { return r.client.CAS(t.Context(), "n", increment) }, member, member, member)
		release()
		for _, ch := range []<-chan error{first, results, results, results} {
			if err := receive(t, "result", ch); err != nil {
				t.Error(err)
			}
		}
		if n := callbacks.Load(); n != 3 {
			t.Errorf("three callbacks, each within its patience, ran %d times", n)
		}
		r.want("n", "4")
	})
}
