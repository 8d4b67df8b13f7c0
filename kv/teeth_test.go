package kv_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// A decision not to write counts only while the guards hold, also if another
// call, without guards, has read the key since (C2).
func TestDeclineUnderAGuardRestsOnAReadUnderIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{SlowCallback: time.Hour})
		r.put(r.client, "n", "0")
		guard := kv.Guard{Key: "guard", Version: r.version("guard", "g")}
		g, err := kv.Guarded(r.client)
		if err != nil {
			t.Fatal(err)
		}
		guarded := func(f func(any) (any, bool, error)) <-chan error {
			result := make(chan error, 1)
			go func() { result <- g.CASGuarded(t.Context(), "n", f, guard) }()
			synctest.Wait()
			return result
		}
		answer := make(chan struct{})
		r.store.onSwap = func(_ context.Context, s driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
			if len(s.Guards) > 0 {
				<-answer
			}
			return do()
		}
		leader := guarded(increment)
		declines := guarded(func(any) (any, bool, error) { return nil, false, nil })
		r.put(r.client, "n", "1") // what is remembered from here on is newer than both calls
		r.put(r.other, "guard", "moved")
		close(answer)
		for _, result := range []<-chan error{leader, declines} {
			if err := <-result; !errors.Is(err, kv.ErrFenced) {
				t.Errorf("CASGuarded = %v, want ErrFenced", err)
			}
		}
	})
}

// What a call has read by itself needs no second look.
func TestDeclineCostsOneRead(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.other, "k", "v")
	if err := r.client.CAS(t.Context(), "k", func(any) (any, bool, error) { return nil, false, nil }); err != nil || r.store.gets.Load() != 1 {
		t.Errorf("%v after %d reads, want 1", err, r.store.gets.Load())
	}
}

// An update of what is remembered is one trip, in any history of the store.
func TestRememberedInALaterHistory(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.store.generation.Store(7)
	r.put(r.client, "n", "1")
	gets := r.store.gets.Load()
	for range 3 {
		if err := r.client.CAS(t.Context(), "n", increment); err != nil {
			t.Fatal(err)
		}
	}
	if gets = r.store.gets.Load() - gets; gets != 0 {
		t.Errorf("3 updates made %d reads", gets)
	}
}

func TestMemoryIsUsedToTheLastByte(t *testing.T) {
	r := newRig(t, kv.Options{RememberBytes: 10})
	for _, c := range []struct {
		key, value     string
		entries, bytes int
	}{
		{"abc", "12", 1, 5},
		{"def", "34", 2, 10},
		{"ghi", "5", 2, 9}, // without the oldest
		{"abc", "12345678", 0, 0},
	} {
		r.put(r.client, c.key, c.value)
		if entries, bytes := kv.Remembered(r.client); entries != c.entries || bytes != c.bytes {
			t.Errorf("after %q, %d entries of %d bytes are remembered, want %d of %d", c.key, entries, bytes, c.entries, c.bytes)
		}
	}
}

// The options lower the limits of a store, and raise none.
func TestLimitsAreLowered(t *testing.T) {
	for _, c := range []struct{ store, option, want int }{
		{0, 0, 0}, {0, 10, 10}, {4, 10, 4}, {10, 4, 4},
	} {
		client := kv.New(limited{limits: driver.Limits{Value: c.store}}, stringCodec, &kv.Options{MaxValueSize: c.option})
		if l, err := kv.LimitsOf(client); err != nil || l.Value != c.want || l.GuardedValue != c.option || l.Key != kv.MaxKeyLen {
			t.Errorf("a store of %d with the option %d: %+v, %v", c.store, c.option, l, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

// limited is a store of which only the limits are known.
type limited struct {
	driver.Store
	limits driver.Limits
}

func (l limited) Limits() driver.Limits { return l.limits }
func (l limited) Close() error          { return nil }

// Who is cancelled learns that once, the cause that was given, and what the
// store said last.
func TestErrorOfACancelledCall(t *testing.T) {
	for _, cause := range []error{nil, errors.New("the caller's own cause")} {
		for _, c := range []struct {
			says error
			call func(ctx context.Context, r *rig) error
		}{
			{nil, func(ctx context.Context, r *rig) error {
				return r.client.CAS(ctx, "k", func(any) (any, bool, error) { <-ctx.Done(); return "v", false, nil })
			}},
			{errLost, func(ctx context.Context, r *rig) error {
				_, err := r.client.Get(ctx, "k")
				return err
			}},
			{errLost, func(ctx context.Context, r *rig) error {
				return r.client.CAS(ctx, "k", func(any) (any, bool, error) { return "v", false, nil })
			}},
			{errLost, func(ctx context.Context, r *rig) error { // beside one whose failure it shares
				var other sync.WaitGroup
				defer other.Wait()
				other.Go(func() { _ = r.client.Delete(ctx, "k") })
				return r.client.Delete(ctx, "k")
			}},
		} {
			says := c.says
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, kv.Options{MinBackoff: time.Hour, MaxBackoff: time.Hour, RetryTimeout: 24 * time.Hour})
				r.store.onGet = func(context.Context, driver.GetRequest) error { return says }
				ctx, cancel := context.WithCancelCause(t.Context())
				result := make(chan error, 1)
				go func() { result <- c.call(ctx, r) }()
				synctest.Wait() // it is in its callback, or in a pause
				cancel(cause)
				err := <-result
				if !errors.Is(err, context.Canceled) || cause != nil && !errors.Is(err, cause) || says != nil && !errors.Is(err, says) {
					t.Errorf("%v, want context.Canceled with %v and %v", err, cause, says)
				}
				if strings.Count(err.Error(), context.Canceled.Error()) != 1 || strings.Contains(err.Error(), "nil") {
					t.Errorf("%v", err)
				}
				if n := r.store.swaps.Load(); n != 0 {
					t.Errorf("%d swaps after the call ended", n)
				}
			})
		}
	}
}

// A round ends with the last of its members, and no sooner: who waits for the
// next one is none of them.
func TestRoundEndsWithItsMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, kv.Options{SlowCallback: time.Hour, AttemptTimeout: time.Hour})
		var ended atomic.Bool
		r.store.onSwap = func(ctx context.Context, _ driver.Swap, _ func() (driver.Result, error)) (driver.Result, error) {
			<-ctx.Done()
			ended.Store(true)
			return driver.Result{}, ctx.Err()
		}
		var leave [3]func()
		results := make(chan error, len(leave))
		caller := func(i int) func() {
			ctx, cancel := context.WithCancel(t.Context())
			leave[i] = cancel
			return func() { results <- r.client.CAS(ctx, "n", increment) }
		}
		release, first := gather(r, "n", func() error { return r.client.CAS(t.Context(), "n", increment) }, caller(1), caller(2))
		release()
		if err := <-first; err != nil {
			t.Error(err)
		}
		synctest.Wait() // the swap of the two is under way
		go caller(0)()
		synctest.Wait()
		for i, leave := range leave {
			if ended.Load() {
				t.Errorf("the round ended when %d had left", i)
			}
			leave()
			synctest.Wait()
		}
		if !ended.Load() {
			t.Error("all have left, and the round goes on")
		}
		for range leave {
			if err := <-results; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
	})
}

// Who loses in its turn gives it up soon if nobody waits for it, and late otherwise.
func TestTurnLastsWhileOthersWait(t *testing.T) {
	for waiting, inLine := range map[int]int{0: kv.LoneTries, 1: kv.TurnTries} {
		synctest.Test(t, func(t *testing.T) {
			r := newLineRig(t, kv.Options{SlowCallback: time.Hour})
			tries := 0
			var wait sync.WaitGroup
			err := r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
				tries++
				if tries == 2 {
					for range waiting {
						wait.Go(func() {
							if err := r.loser(t.Context(), func() {}); err != nil {
								t.Error(err)
							}
						})
					}
					synctest.Wait()
				}
				if tries == inLine+2 {
					if n := kv.TurnsLen(r.client, "n"); n > waiting {
						t.Errorf("%d calls are in the line at try %d", n, tries)
					}
					return increment(in)
				}
				if n := kv.TurnsLen(r.client, "n"); tries > 1 && n != waiting+1 {
					t.Errorf("%d calls are in the line at try %d", n, tries)
				}
				r.put(r.other, "n", strconv.Itoa(tries))
				return increment(in)
			})
			if err != nil {
				t.Error(err)
			}
			wait.Wait()
		})
	}
}
