package kv_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// conflicts makes the store refuse so many swaps as conflicts that tell nothing.
func conflicts(r *rig, n int) {
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		if n--; n >= 0 {
			return driver.Result{Outcome: driver.Conflict}, nil
		}
		return do()
	}
}

// A few conflicts in a row are retried at once, and the pauses after that stay
// a tenth of MinBackoff to a 200th of MaxBackoff.
func TestPausesBetweenConflictsComeLateAndStayShort(t *testing.T) {
	const first, longest = 10 * time.Millisecond, 100 * time.Millisecond
	for n, want := range map[int]struct{ least, most time.Duration }{
		5:  {0, 0}, // the leader's, and four of its group
		6:  {first / 2, first * 3 / 2},
		45: {30 * longest / 2, 40 * longest * 3 / 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, kv.Options{MinBackoff: 10 * first, MaxBackoff: 200 * longest, ContentionTimeout: time.Hour})
			conflicts(r, n)
			began := time.Now()
			err := r.client.CAS(t.Context(), "n", increment)
			if took := time.Since(began); err != nil || took < want.least || took > want.most {
				t.Errorf("CAS = %v after %d conflicts in %v, want %v to %v", err, n, took, want.least, want.most)
			}
		})
	}
}

// group has n calls of op meet on the key "n" behind a first one, and returns
// what the n ended with.
func group(r *rig, n int, op func() error) (errs []error) {
	results := make(chan error, n)
	waiting := make([]func(), n)
	for i := range waiting {
		waiting[i] = func() { results <- op() }
	}
	release, first := gather(r, "n", func() error { return r.client.CAS(r.t.Context(), "n", increment) }, waiting...)
	release()
	if err := receive(r.t, "the first result", first); err != nil {
		r.t.Error(err)
	}
	for range n {
		errs = append(errs, receive(r.t, "a result", results))
	}
	return errs
}

// What ends a round for one member because it lasts too long ends it for all
// that it lasted too long for.
func TestAllMembersAreGivenUp(t *testing.T) {
	for want, swap := range map[error]func() (driver.Result, error){
		kv.ErrConflict:    func() (driver.Result, error) { return driver.Result{Outcome: driver.Conflict}, nil },
		kv.ErrUnavailable: func() (driver.Result, error) { return driver.Result{Outcome: driver.NotApplied}, errLost },
	} {
		t.Run(want.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, kv.Options{ContentionTimeout: 20 * time.Second, RetryTimeout: 20 * time.Second})
				r.store.onSwap = func(context.Context, driver.Swap, func() (driver.Result, error)) (driver.Result, error) {
					return swap()
				}
				began := time.Now()
				for _, err := range group(r, 3, func() error { return r.client.CAS(t.Context(), "n", increment) }) {
					if !errors.Is(err, want) {
						t.Errorf("CAS = %v, want %v", err, want)
					}
				}
				if took := time.Since(began); took < 10*time.Second || took > 25*time.Second {
					t.Errorf("given up after %v", took)
				}
			})
		})
	}
}

// In a group of unknown outcome whose key is gone the deletions are done, and
// what wrote is not.
func TestWriteBesideADeleteOfUnknownOutcome(t *testing.T) {
	for name, theirs := range map[string]string{"gone": "", "written by another": "theirs"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, patient)
			loseFirst(r, true, func() {
				if theirs != "" {
					r.put(r.other, "n", theirs)
				}
			})
			written, deleted := make(chan error, 1), make(chan error, 1)
			release, first := gather(r, "n", func() error { return r.client.CAS(t.Context(), "n", increment) },
				func() { written <- r.client.CAS(t.Context(), "n", set("mine")) },
				func() { deleted <- r.client.Delete(t.Context(), "n") },
			)
			release()
			if err := receive(t, "the first result", first); err != nil {
				t.Error(err)
			}
			if err := receive(t, "the writer's result", written); !errors.Is(err, kv.ErrIndeterminate) {
				t.Errorf("CAS = %v; nobody knows whether it was ever applied", err)
			}
			if err := receive(t, "the deletion's result", deleted); errors.Is(err, kv.ErrIndeterminate) != (theirs != "") {
				t.Errorf("Delete = %v", err)
			}
		})
	}
}

// A callback holds the others of its group up for SlowCallback, no shorter and no
// longer, also if an earlier turn in the same round took a part of that time.
func TestGroupWaitsForSlowCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = time.Second
		r := newRig(t, kv.Options{SlowCallback: patience})
		r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
			return do()
		}
		var calls [3]int
		var inTime, evicted, last time.Time
		results := make(chan error, 3)
		cas := func(caller int, turn func()) func() {
			return func() {
				results <- r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
					if calls[caller]++; calls[caller] == 1 {
						turn()
					}
					return increment(in)
				})
			}
		}
		release, first := gather(r, "n", func() error { return r.client.CAS(t.Context(), "n", increment) },
			cas(0, func() { time.Sleep(patience * 3 / 4); inTime = time.Now() }),
			cas(1, func() { evicted = time.Now(); time.Sleep(3 * patience) }),
			cas(2, func() { last = time.Now() }),
		)
		release()
		for _, ch := range []<-chan error{first, results, results, results} {
			if err := receive(t, "a result", ch); err != nil {
				t.Error(err)
			}
		}
		if !evicted.Equal(inTime) || last.Sub(evicted) != patience {
			t.Errorf("turns began %v after one that was in time, and %v after one that was not", evicted.Sub(inTime), last.Sub(evicted))
		}
		if calls != [3]int{1, 2, 1} {
			t.Errorf("calls: %v", calls)
		}
		r.want("n", "4")
	})
}
