package coordination_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// hung returns a client whose line can be made to hang, as that of a process that
// is stopped, or cut off.
func hung(t *testing.T, s *inmemory.Store) (kv.Client, *conformance.StoreLine) {
	line := conformance.Breakable(s.Open())
	t.Cleanup(line.Mend)
	return open(t, line), line
}

// A holder that is cut off for longer than the TTL is told before another one
// gets the lock, and what it writes when it is back is refused.
func TestHolderThatIsCutOff(t *testing.T) {
	for name, breaks := range map[string]func(*conformance.StoreLine){"hanging": (*conformance.StoreLine).Hang, "cut": (*conformance.StoreLine).Cut} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := inmemory.NewStore()
				c, line := hung(t, s)
				held := lock(t, newLock(t, c, nil))
				if err := act(t, held); err != nil {
					t.Fatal(err)
				}
				told := make(chan time.Time, 1)
				go func() {
					<-held.Done()
					told <- time.Now()
				}()
				other := newLock(t, open(t, s.Open()), nil)
				began := time.Now()
				breaks(line)
				next := lock(t, other)
				got := time.Now()
				if at := <-told; !at.Before(got) || !errors.Is(held.Err(), coordination.ErrLost) {
					t.Errorf("the former holder was told at %v (%v), the next one got the lock at %v", at, held.Err(), got)
				}
				if took := got.Sub(began); took < ttl*2/3 || took > 2*ttl {
					t.Errorf("the lock was taken over after %v", took)
				}
				line.Mend()
				if err := act(t, held); !errors.Is(err, kv.ErrFenced) {
					t.Errorf("a late act returned %v", err)
				}
				if err := act(t, next); err != nil {
					t.Error(err)
				}
				if err := held.Unlock(t.Context()); !errors.Is(err, coordination.ErrLost) {
					t.Errorf("Unlock of what was lost: %v", err)
				}
				wantInOrder(t, open(t, s.Open()), 2)
				unlock(t, next)
			})
		})
	}
}

// One that waits and is cut off for longer than the TTL takes nobody for dead
// when it is back, and neither does anybody else whose store was away.
func TestWaiterThatIsCutOffDeclaresNobodyDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		held := lock(t, newLock(t, open(t, s.Open()), nil))
		c, line := hung(t, s)
		var mu sync.Mutex
		var passed []string
		waiter := newLock(t, c, func(e coordination.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Type == coordination.PassedOver {
				passed = append(passed, e.ID)
			}
		})
		got := make(chan *coordination.Held)
		go func() { got <- lock(t, waiter) }()
		time.Sleep(ttl)
		for _, breaks := range []func(){line.Hang, line.Cut} {
			breaks()
			time.Sleep(6 * ttl)
			line.Mend()
			time.Sleep(3 * ttl)
		}
		if over(held) {
			t.Errorf("the holder lost its lock: %v", held.Err())
		}
		if err := act(t, held); err != nil {
			t.Error(err)
		}
		unlock(t, held)
		unlock(t, <-got)
		mu.Lock()
		defer mu.Unlock()
		if len(passed) > 0 {
			t.Errorf("%v were taken for dead", passed)
		}
	})
}

// One that waits and dies is passed over, and one whose call ends leaves the
// queue at once.
func TestDeadAndGoneWaitersArePassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		held := lock(t, newLock(t, open(t, s.Open()), nil))
		dead, line := hung(t, s)
		dying := newLock(t, dead, nil)
		go func() {
			if held, err := dying.Lock(t.Context()); err == nil {
				_ = held.Unlock(t.Context())
			}
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := newLock(t, open(t, s.Open()), nil).Lock(ctx)
			gone <- err
		}()
		synctest.Wait()
		last := newLock(t, open(t, s.Open()), nil)
		got := make(chan *coordination.Held)
		go func() { got <- lock(t, last) }()
		synctest.Wait()
		line.Hang()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("a call whose ctx ended returned %v", err)
		}
		time.Sleep(3 * ttl)
		began := time.Now()
		unlock(t, held)
		unlock(t, <-got)
		if took := time.Since(began); took > ttl {
			t.Errorf("with one dead and one gone ahead it took %v", took)
		}
		line.Mend()
		time.Sleep(3 * ttl) // the one that was passed over comes back, waits again and gets it
		again := lock(t, last)
		unlock(t, again)
	})
}

// A holder whose fence is broken, by an operator who deletes the record or by a
// store that was set back, is told at once.
func TestBrokenFenceIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		c := open(t, s.Open())
		l := newLock(t, c, nil)
		held := lock(t, l)
		synctest.Wait() // the watch has shown it: what comes and goes before leaves no trace
		if err := c.Delete(t.Context(), "locks/job/holder"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-held.Done()
		if took := time.Since(began); took > ttl/10 || !errors.Is(held.Err(), coordination.ErrLost) {
			t.Errorf("told after %v: %v", took, held.Err())
		}
		unlock(t, lock(t, l))
	})
}

// readOnly is a store whose caller may write nothing while it says so.
type readOnly struct {
	driver.Store
	refuses atomic.Bool
}

func (r *readOnly) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if r.refuses.Load() {
		return driver.Result{Outcome: driver.NotApplied}, driver.ErrPermission
	}
	return r.Store.Swap(ctx, s)
}

// Whoever may not write is told, instead of waiting for ever, and may try again.
func TestLackOfRightsIsTold(t *testing.T) {
	store := &readOnly{Store: inmemory.NewStore().Open()}
	store.refuses.Store(true)
	l := newLock(t, open(t, store), nil)
	for name, take := range map[string]func(context.Context) (*coordination.Held, error){"Lock": l.Lock, "TryLock": l.TryLock} {
		if _, err := take(t.Context()); !errors.Is(err, kv.ErrPermission) {
			t.Errorf("%s: %v", name, err)
		}
	}
	store.refuses.Store(false)
	unlock(t, lock(t, l))
}
