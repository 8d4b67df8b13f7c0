package kv_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func TestCASHotKey(t *testing.T) {
	r := newRig(t, kv.Options{})
	r.count(64, 50, func(i int) kv.Client {
		if i%8 == 0 {
			return r.other
		}
		return r.client
	})
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
