package kv_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// TestEveryStep has callers of one key meet slow callbacks, other writers,
// lost answers and refusals, and leave at any time, until each step of the table
// in membership.go was made, and wants that none was made besides, and that
// every call that succeeded counts once.
func TestEveryStep(t *testing.T) {
	r := newRig(t, kv.Options{
		MinBackoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond, SlowCallback: time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	})
	refused := driver.Permanent(errors.New("refused"))
	r.store.onGet = func(context.Context, driver.GetRequest) error {
		switch rand.IntN(8) {
		case 0:
			return refused
		case 1:
			return errLost
		}
		return nil
	}
	r.store.onSwap = func(ctx context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		switch rand.IntN(6) {
		case 0:
			return lost(true, do)
		case 1:
			return driver.Result{Outcome: driver.NotApplied}, refused
		case 2:
			r.put(r.other, "beside", "x")
			_ = r.other.CAS(context.WithoutCancel(ctx), "n", func(in any) (any, bool, error) { return in, false, nil })
		}
		return do()
	}
	var least, most atomic.Int64 // how often "n" was incremented
	call := func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if rand.IntN(2) == 0 {
			defer time.AfterFunc(rand.N(3*time.Millisecond), cancel).Stop()
		}
		writes, slow := rand.IntN(4) > 0, rand.IntN(8) == 0
		err := r.client.CAS(ctx, "n", func(in any) (any, bool, error) {
			if slow {
				time.Sleep(rand.N(4 * time.Millisecond)) // the callback's work
			}
			if !writes {
				return nil, false, nil
			}
			return increment(in)
		})
		switch {
		case !writes:
		case err == nil:
			least.Add(1)
			most.Add(1)
		case errors.Is(err, kv.ErrIndeterminate):
			most.Add(1)
		}
	}
	deadline := time.Now().Add(time.Minute)
	var missing, wrong []string
	for missing, wrong = kv.Steps(); len(missing) > 0 && time.Now().Before(deadline); missing, wrong = kv.Steps() {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 20 {
					call()
				}
			})
		}
		all.Wait()
	}
	if len(missing)+len(wrong) > 0 {
		t.Errorf("steps that no call made: %q; steps that are not in the table: %q", missing, wrong)
	}
	value, err := r.other.Get(t.Context(), "n")
	text, _ := value.(string)
	n, _ := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least.Load() || n > most.Load() {
		t.Errorf("the counter is %q, %v after %d calls that succeeded and %d of unknown outcome", text, err, least.Load(), most.Load()-least.Load())
	}
}
