package multi_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// Calls on a hot key share the swaps of a coordinated client and their mirrors:
// all carry the same guard.
func TestHotKeysAreWrittenInGroups(t *testing.T) {
	r := newRig(t)
	var swaps [2]atomic.Int64
	c := r.client(func(at int, s driver.Store) driver.Store {
		return &hooked{Store: s, beforeSwap: func(driver.Swap) error {
			swaps[at].Add(1)
			time.Sleep(time.Millisecond) // a network's round trip, for calls to gather in
			return nil
		}}
	})
	const goroutines, each = 64, 20
	var writers sync.WaitGroup
	for range goroutines {
		writers.Go(func() {
			for range each {
				if err := c.CAS(t.Context(), "hot", increment); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	const calls = goroutines * each
	for at := range swaps {
		if n := swaps[at].Load(); n > calls/4 {
			t.Errorf("%d calls on one key took %d swaps in store %d", calls, n, at)
		}
	}
	if got := get(t, c, "hot"); got != fmt.Sprint(calls) {
		t.Errorf("the counter is %v after %d increments", got, calls)
	}
}
