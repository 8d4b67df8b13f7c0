package kv_test

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func TestCASHotKey(t *testing.T) {
	r := newRig(t, kv.Options{})
	const contenders, each = 64, 50
	var wg sync.WaitGroup
	for i := range contenders {
		c := r.client
		if i%8 == 0 {
			c = r.other
		}
		wg.Go(func() {
			for range each {
				if err := c.CAS(t.Context(), "n", increment); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.want("n", strconv.Itoa(contenders*each))
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

func TestCASIsOneTripWhenUncontended(t *testing.T) {
	r := newRig(t, kv.Options{})
	for range 10 {
		r.put(r.client, "k", "v")
	}
	if gets, swaps := r.store.gets.Load(), r.store.swaps.Load(); gets != 1 || swaps != 10 {
		t.Errorf("10 CAS in a row made %d reads and %d swaps, want 1 and 10", gets, swaps)
	}
}

func TestCASRememberedEntryIsOnlyAGuess(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.client, "k", "old")
	r.put(r.other, "k", "new")
	var seen []any
	err := r.client.CAS(t.Context(), "k", func(in any) (any, bool, error) {
		seen = append(seen, in)
		return nil, false, nil // a decision not to write, first made on what is remembered
	})
	if err != nil || seen[len(seen)-1] != "new" {
		t.Errorf("CAS = %v after seeing %v; a decline on a stale value must not count (C2)", err, seen)
	}
	failure := errors.New("won't")
	r.put(r.other, "k", "newer")
	err = r.client.CAS(t.Context(), "k", func(in any) (any, bool, error) {
		if in != "newer" {
			return nil, false, failure
		}
		return nil, false, nil
	})
	if err != nil {
		t.Errorf("an error decided on a stale value came back: %v (C2)", err)
	}
}

func TestCASNoABA(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.client, "k", "a")
	var seen []any
	err := r.client.CAS(t.Context(), "k", func(in any) (any, bool, error) {
		if len(seen) == 0 {
			if err := r.other.Delete(t.Context(), "k"); err != nil {
				t.Error(err)
			}
			r.put(r.other, "k", "a")
		}
		seen = append(seen, in)
		return "b", false, nil
	})
	if err != nil || len(seen) != 2 {
		t.Errorf("CAS = %v, callback ran %d times; delete and re-create in between must be noticed (C1)", err, len(seen))
	}
}

func TestCASPanicAndGoexitStayWithTheirOwner(t *testing.T) {
	for name, misbehave := range map[string]func(){
		"panic":  func() { panic("mine") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, kv.Options{SlowCallback: time.Hour}) // nobody is rescued by an eviction
			var wg sync.WaitGroup
			var ended atomic.Int64
			for i := range 30 {
				wg.Go(func() {
					defer func() {
						if recovered := recover(); recovered != nil && recovered != "mine" {
							t.Errorf("recovered %v", recovered)
						}
						ended.Add(1)
					}()
					err := r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
						if i%3 == 0 {
							misbehave()
						}
						return increment(in)
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			r.want("n", "20")
			r.put(r.client, "n", "usable")
		})
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

func TestCASNested(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: 5 * time.Millisecond})
	nested := 0
	err := r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
		if nested < 3 {
			nested++
			if err := r.client.CAS(t.Context(), "n", increment); err != nil {
				return nil, false, err
			}
		}
		return increment(in)
	})
	if err != nil {
		t.Fatal(err)
	}
	r.want("n", "4")
}

func TestCASNestedForEverIsAConflict(t *testing.T) {
	r := newRig(t, kv.Options{SlowCallback: time.Millisecond, ContentionTimeout: 100 * time.Millisecond})
	err := r.client.CAS(t.Context(), "n", func(in any) (any, bool, error) {
		if err := r.client.CAS(t.Context(), "n", increment); err != nil {
			return nil, false, err
		}
		return increment(in)
	})
	if !errors.Is(err, kv.ErrConflict) {
		t.Errorf("a callback that always changes its own key: %v, want ErrConflict", err)
	}
}

func TestCASContentionTimeout(t *testing.T) {
	r := newRig(t, kv.Options{ContentionTimeout: 50 * time.Millisecond})
	r.store.onSwap = func(_ context.Context, s driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		r.put(r.other, s.Key, "theirs")
		return do()
	}
	calls := 0
	err := r.client.CAS(t.Context(), "k", func(any) (any, bool, error) { calls++; return "mine", false, nil })
	if !errors.Is(err, kv.ErrConflict) || calls < 2 {
		t.Errorf("CAS = %v after %d callbacks, want ErrConflict after several", err, calls)
	}
	if n := r.store.gets.Load(); n < 2 {
		t.Errorf("%d reads in %d rounds; after a pause the value must be read again, or it is old when it is sent", n, calls)
	}
	r.want("k", "theirs")
}

func TestCASRetryAndError(t *testing.T) {
	r := newRig(t, kv.Options{MaxAttempts: 4, MinBackoff: time.Millisecond})
	failure := errors.New("not yet")
	calls := 0
	err := r.client.CAS(t.Context(), "k", func(any) (any, bool, error) { calls++; return "x", true, failure })
	if !errors.Is(err, failure) || calls != 4 {
		t.Errorf("CAS = %v after %d callbacks, want the error after 4", err, calls)
	}
	calls = 0
	err = r.client.CAS(t.Context(), "k", func(any) (any, bool, error) { calls++; return "x", false, failure })
	if !errors.Is(err, failure) || calls != 1 {
		t.Errorf("CAS = %v after %d callbacks, want the error after 1", err, calls)
	}
	r.want("k", nil)
}

// A callback that waits for another's write by asking for retries must get to
// see it, not what this client remembers.
func TestCASRetrySeesTheStore(t *testing.T) {
	r := newRig(t, kv.Options{MinBackoff: time.Millisecond})
	r.put(r.client, "k", "old")
	calls := 0
	err := r.client.CAS(t.Context(), "k", func(in any) (any, bool, error) {
		calls++
		if in != "new" {
			r.put(r.other, "k", "new")
			return nil, true, errors.New("wait for it")
		}
		return nil, false, nil
	})
	if err != nil || calls > 3 {
		t.Errorf("CAS = %v after %d callbacks", err, calls)
	}
}

func TestCASRemove(t *testing.T) {
	r := newRig(t, kv.Options{})
	remove := func(any) (any, bool, error) { return kv.Remove, false, nil }
	if err := r.client.CAS(t.Context(), "k", remove); err != nil {
		t.Error(err)
	}
	if n := r.store.swaps.Load(); n != 0 {
		t.Errorf("removing an absent key made %d swaps", n)
	}
	r.put(r.client, "k", "v")
	if err := r.client.CAS(t.Context(), "k", remove); err != nil {
		t.Error(err)
	}
	r.want("k", nil)
	r.put(r.client, "k", "again")
	r.want("k", "again")
}

func TestCASEncodingErrorsWriteNothing(t *testing.T) {
	r := newRig(t, kv.Options{MaxValueSize: 10})
	for name, out := range map[string]any{"wrong type": 42, "too large": "12345678901"} {
		calls := 0
		err := r.client.CAS(t.Context(), "k", func(any) (any, bool, error) { calls++; return out, true, nil })
		if err == nil || calls != 1 {
			t.Errorf("%s: CAS = %v after %d callbacks", name, err, calls)
		}
		if tooLarge := name == "too large"; errors.Is(err, kv.ErrTooLarge) != tooLarge {
			t.Errorf("%s: %v", name, err)
		}
		var kvErr *kv.Error
		if !errors.As(err, &kvErr) || kvErr.Key != "k" {
			t.Errorf("%s: the key is not in %v", name, err)
		}
	}
	r.want("k", nil)
}

func TestDelete(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.put(r.client, "k", "v")
	for range 2 { // the second time it is absent
		if err := r.client.Delete(t.Context(), "k"); err != nil {
			t.Error(err)
		}
	}
	r.want("k", nil)
}
