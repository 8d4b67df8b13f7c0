package kv_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

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
