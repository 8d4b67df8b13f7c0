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

// patient keeps a test of unknown outcomes from waiting ten seconds.
var patient = kv.Options{RetryTimeout: 300 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond}

// loseFirst loses the answer of the first swap, which was applied or not.
func loseFirst(r *rig, applied bool, afterwards func()) {
	first := true
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		if !first {
			return do()
		}
		first = false
		res, err := lost(applied, do)
		if afterwards != nil {
			afterwards()
		}
		return res, err
	}
}

func TestLostAnswerOfAnUpdateThatWasNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, patient)
		r.put(r.client, "n", "1")
		loseFirst(r, false, nil)
		if err := r.client.CAS(t.Context(), "n", increment); err != nil {
			t.Errorf("the repeat must give a definite answer: %v", err)
		}
		r.want("n", "2")
	})
}

// The in-memory store can't tell whose write it was, so this must not become
// a second increment.
func TestLostAnswerOfAnUpdateThatWasApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, patient)
		r.put(r.client, "n", "1")
		loseFirst(r, true, nil)
		if err := r.client.CAS(t.Context(), "n", increment); !errors.Is(err, kv.ErrIndeterminate) || !errors.Is(err, errLost) {
			t.Errorf("CAS = %v, want ErrIndeterminate with its cause", err)
		}
		r.want("n", "2")
	})
}

func TestLostAnswerOfACreate(t *testing.T) {
	for name, applied := range map[string]bool{"applied": true, "not applied": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, patient)
			loseFirst(r, applied, func() {
				if err := r.other.Delete(t.Context(), "n"); err != nil { // by another
					t.Error(err)
				}
			})
			if err := r.client.CAS(t.Context(), "n", increment); !errors.Is(err, kv.ErrIndeterminate) {
				t.Errorf("CAS = %v, want ErrIndeterminate", err)
			}
			r.want("n", nil) // never a second create
			if n := r.store.swaps.Load(); n != 1 {
				t.Errorf("a create of unknown outcome was sent %d times", n)
			}
		})
	}
}

// resolving is a store that can tell what became of a swap.
type resolving struct {
	*hooked
	resolve func(s driver.Swap, now driver.Entry) driver.Outcome
}

func (s *resolving) Resolve(sw driver.Swap, now driver.Entry) driver.Outcome {
	return s.resolve(sw, now)
}

func TestResolverDecides(t *testing.T) {
	for _, c := range []struct {
		name    string
		before  string // "": absent
		verdict driver.Outcome
		want    error
		after   string
	}{
		{"update applied", "1", driver.Applied, nil, "2"},
		{"update not applied", "1", driver.NotApplied, nil, "11"}, // another's write to 10 came first
		{"update unknown", "1", driver.Unknown, kv.ErrIndeterminate, "10"},
		{"create applied", "", driver.Applied, nil, "1"},
		{"create not applied", "", driver.NotApplied, kv.ErrIndeterminate, "10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, patient)
			store := &resolving{hooked: r.store}
			client := kv.New(store, stringCodec, &patient)
			if c.before != "" {
				r.put(client, "n", c.before)
			}
			store.resolve = func(s driver.Swap, now driver.Entry) driver.Outcome {
				if s.ID == 0 || now.Version == s.Prev.Version {
					t.Errorf("asked to resolve %+v from %+v", s, now)
				}
				return c.verdict
			}
			applied := c.verdict == driver.Applied
			loseFirst(r, applied, func() {
				if !applied {
					r.put(r.other, "n", "10")
				}
			})
			if err := client.CAS(t.Context(), "n", increment); !errors.Is(err, c.want) {
				t.Errorf("CAS = %v, want %v", err, c.want)
			}
			r.want("n", c.after)
		})
	}
}

func TestLostAnswerOfADelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, patient)
		r.put(r.client, "k", "v")
		loseFirst(r, true, nil)
		if err := r.client.Delete(t.Context(), "k"); err != nil {
			t.Errorf("the key is gone, so it was deleted after the call began: %v", err)
		}
		r.want("k", nil)

		r.put(r.client, "k", "v")
		loseFirst(r, true, func() { r.put(r.other, "k", "theirs") })
		if err := r.client.Delete(t.Context(), "k"); err != nil && !errors.Is(err, kv.ErrIndeterminate) {
			t.Errorf("Delete = %v", err)
		}
		r.want("k", "theirs") // never applied twice

		loseFirst(r, true, func() {
			r.store.onGet = func(context.Context, driver.GetRequest) error { return driver.ErrPermission }
		})
		if err := r.client.Delete(t.Context(), "k"); !errors.Is(err, kv.ErrIndeterminate) {
			t.Errorf("Delete = %v, though nobody could see what became of the key", err)
		}
	})
}

func TestUnknownThenBrokenGuardIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, patient)
		r.put(r.client, "k", "1")
		g, err := kv.Guarded(r.client)
		if err != nil {
			t.Fatal(err)
		}
		guard := kv.Guard{Key: "guard", Version: r.version("guard", "g")}
		if err := g.CASGuarded(t.Context(), "k", increment, guard); err != nil {
			t.Fatal(err)
		}
		breakGuard := func() { r.put(r.other, "guard", "moved") }

		loseFirst(r, false, breakGuard)
		if err := g.CASGuarded(t.Context(), "k", increment, guard); !errors.Is(err, kv.ErrFenced) || errors.Is(err, kv.ErrIndeterminate) {
			t.Errorf("lost, not applied, then the guard broke: %v, want ErrFenced for certain", err)
		}
		r.want("k", "2")

		guard.Version = r.version("guard", "g")
		loseFirst(r, true, breakGuard)
		if err := g.CASGuarded(t.Context(), "k", increment, guard); !errors.Is(err, kv.ErrIndeterminate) {
			t.Errorf("lost, applied, then the guard broke: %v, want ErrIndeterminate", err)
		}
		r.want("k", "3")
	})
}

// After an unknown attempt a conflict is no answer yet: if the key is still at
// Prev, only the same swap can tell.
func TestConflictAfterUnknownIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, patient)
		r.store.generation.Store(1)
		r.put(r.client, "n", "1")
		var ids []uint64
		r.store.onSwap = func(_ context.Context, s driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
			ids = append(ids, s.ID)
			switch len(ids) {
			case 1:
				return lost(false, do)
			case 2:
				return driver.Result{Outcome: driver.Conflict}, nil
			default:
				return do()
			}
		}
		if err := r.client.CAS(t.Context(), "n", increment); err != nil {
			t.Error(err)
		}
		r.want("n", "2")
		if len(ids) != 3 || ids[0] != ids[1] || ids[1] != ids[2] {
			t.Errorf("swaps %v; the same one must be repeated", ids)
		}
	})
}

// What a resolver concludes from versions of another history counts nothing.
func TestUnknownAcrossGenerations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, patient)
		r.store.generation.Store(1)
		store := &resolving{r.store, func(driver.Swap, driver.Entry) driver.Outcome { return driver.NotApplied }}
		client := kv.New(store, stringCodec, &patient)
		r.put(client, "n", "1")
		loseFirst(r, false, func() {
			r.put(r.other, "n", "10")
			r.store.generation.Store(2)
		})
		if err := client.CAS(t.Context(), "n", increment); !errors.Is(err, kv.ErrIndeterminate) {
			t.Errorf("CAS = %v, want ErrIndeterminate", err)
		}
		r.want("n", "10")
	})
}

// When the store refuses to be asked, waiting for RetryTimeout is no use.
func TestUnknownThatNobodyMayAskAbout(t *testing.T) {
	r := newRig(t, kv.Options{RetryTimeout: time.Hour})
	r.put(r.client, "n", "1")
	swaps := 0
	r.store.onSwap = func(_ context.Context, _ driver.Swap, do func() (driver.Result, error)) (driver.Result, error) {
		if swaps++; swaps == 1 {
			return lost(true, do)
		}
		return driver.Result{Outcome: driver.NotApplied}, driver.ErrPermission
	}
	r.store.onGet = func(context.Context, driver.GetRequest) error { return driver.ErrPermission }
	result := make(chan error, 1)
	go func() { result <- r.client.CAS(t.Context(), "n", increment) }()
	if err := receive(t, "result", result); !errors.Is(err, kv.ErrIndeterminate) || !errors.Is(err, kv.ErrPermission) {
		t.Errorf("CAS = %v, want ErrIndeterminate and ErrPermission", err)
	}
}

// A store whose answer doesn't tell the new version must not make a write look
// like a deletion.
