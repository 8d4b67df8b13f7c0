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

// Of the members of a group that decline, the latest counts: what was read
// before it began may be older than what another wrote before it began (C2).
func TestDeclinesOfAGroupRestOnWhatWasCurrentForTheLatest(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: time.Hour})
	r.put(r.client, "n", "0")
	entered, leave := make(chan struct{}), make(chan struct{})
	written, answer := make(chan struct{}), make(chan struct{})
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		res, err := do()
		close(written)
		<-answer
		return res, err
	}
	results := make(chan error, 3)
	go func() {
		results <- r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
			close(entered)
			<-leave
			return increment(in)
		})
	}()
	receive(t, "the first callback", entered)
	decline := func(saw *any) func() {
		return func() {
			results <- r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
				*saw = in
				return nil, false, nil
			})
		}
	}
	var earlySaw, lateSaw any
	go decline(&earlySaw)()
	eventually(t, "the early one waits", func() bool { return kv.QueueLen(r.client, "n") == 1 })
	close(leave)
	receive(t, "the first swap", written)
	r.put(r.other, "n", "theirs")
	go decline(&lateSaw)()
	eventually(t, "the late one waits", func() bool { return kv.QueueLen(r.client, "n") == 2 })
	close(answer)
	for range cap(results) {
		if err := receive(t, "a result", results); err != nil {
			t.Error(err)
		}
	}
	if lateSaw != "theirs" {
		t.Errorf("who came after another's write decided on %v", lateSaw)
	}
}

// The same version in another history of the store is another state.
func TestDeclineIsNotConfirmedByAnotherHistory(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.client, "k", "v")
	r.store.generation.Store(7)
	calls := 0
	err := r.client.CAS(t.Context(), "k", func(any) (any, bool, error) {
		calls++
		return nil, false, nil
	})
	if err != nil || calls != 2 {
		t.Errorf("CAS = %v after %d calls; what was remembered of another history confirms nothing", err, calls)
	}
}

// After a conflict whose answer does not tell the current entry, what was
// remembered is known to be wrong.
func TestConflictThatTellsNothingIsReadAfter(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.client, "n", "0")
	r.put(r.other, "n", "1")
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		res, err := do()
		if res.Outcome == driver.Conflict {
			res.Entry, res.Known = driver.Entry{}, false
		}
		return res, err
	}
	gets, swaps := r.store.gets.Load(), r.store.swaps.Load()
	if err := r.client.CAS(t.Context(), "n", increment); err != nil {
		t.Fatal(err)
	}
	r.want("n", "2")
	if gets, swaps = r.store.gets.Load()-gets, r.store.swaps.Load()-swaps; gets != 1 || swaps != 2 {
		t.Errorf("%d reads and %d swaps, want 1 and 2", gets, swaps)
	}
}

func TestPausesAreJittered(t *testing.T) {
	const n = 50
	var first []time.Duration
	for range n {
		pauses := kv.Pauses(time.Second, time.Minute, 4)
		for i, p := range pauses {
			if middle := time.Second << i; p < middle/2 || p > middle*3/2 {
				t.Errorf("pause %d is %v, want %v or half of it more or less", i, p, middle)
			}
		}
		first = append(first, pauses[0])
	}
	slices.Sort(first)
	if distinct := len(slices.Compact(slices.Clone(first))); distinct < n/2 || first[n-1]-first[0] < time.Second/4 {
		t.Errorf("of %d first pauses %d are different, from %v to %v: those who fail together would come back together", n, distinct, first[0], first[n-1])
	}
}

// hangs is an onGet of a store that never answers.
func hangs(ctx context.Context, _ driver.GetRequest) error {
	<-ctx.Done()
	return ctx.Err()
}

// The last attempt before RetryTimeout doesn't get all of AttemptTimeout.
func TestRetriesEndWithRetryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const attempt, retry = 8 * time.Second, 10 * time.Second
		r := newRig(t, kv.Options{AttemptTimeout: attempt, RetryTimeout: retry})
		r.store.onGet = hangs
		began := time.Now()
		_, err := r.client.Get(t.Context(), "k")
		if took := time.Since(began); !errors.Is(err, kv.ErrUnavailable) || took > attempt+retry+time.Second {
			t.Errorf("Get = %v after %v; attempts of %v are retried for %v after the first", err, took, attempt, retry)
		}
	})
}

// No pause outlives its caller's ctx (C6).
func TestPausesEndWithTheCaller(t *testing.T) {
	fails := func(context.Context, driver.GetRequest) error { return errLost }
	for name, call := range map[string]func(ctx context.Context, r *rig) error{
		"a Get that is retried": func(ctx context.Context, r *rig) error {
			r.store.onGet = fails
			_, err := r.client.Get(ctx, "k")
			return err
		},
		"a CAS that is retried": func(ctx context.Context, r *rig) error {
			r.store.onGet = fails
			return r.client.CAS(ctx, "k", increment)
		},
		"a callback that asks for a retry": func(ctx context.Context, r *rig) error {
			return r.client.CAS(ctx, "k", func(any) (any, bool, error) { return nil, true, errStop })
		},
		"a write of unknown outcome": func(ctx context.Context, r *rig) error {
			r.put(r.client, "k", "1")
			r.store.onSwap = func(context.Context, driver.Swap, func() (driver.Result, error)) (driver.Result, error) {
				return driver.Result{}, errLost
			}
			return r.client.CAS(ctx, "k", increment)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const pause = time.Hour
				r := newRig(t, kv.Options{MinBackoff: pause, MaxBackoff: pause, RetryTimeout: 24 * pause})
				ctx, cancel := context.WithCancel(t.Context())
				result := make(chan error, 1)
				go func() { result <- call(ctx, r) }()
				synctest.Wait() // it is in its pause
				cancelled := time.Now()
				cancel()
				err := <-result
				if took := time.Since(cancelled); !errors.Is(err, context.Canceled) || took > 0 {
					t.Errorf("%v, %v after ctx ended", err, took)
				}
			})
		})
	}
}

// What was remembered at the very moment at which a call begins is older than the
// call: in a bubble, and where clocks tick slowly, many things are of one moment.
func TestDeclineAtTheMomentOfAnEarlierCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{})
		r.put(r.client, "k", "mine")
		r.put(r.other, "k", "theirs")
		var saw any
		if err := r.client.CAS(t.Context(), "k", func(in any) (any, bool, error) {
			saw = in
			return nil, false, nil
		}); err != nil || saw != "theirs" {
			t.Errorf("after another's write it was decided on %v, %v", saw, err)
		}
	})
}
