package kv_test

import (
	"context"
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
