package coordination_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// late is a store that makes one write long after its caller has gone, as one does
// whose disk is slow.
type late struct {
	driver.Store
	key string

	mu      sync.Mutex
	armed   bool
	pending chan struct{} // closed when the write has come
	made    func()        // makes it; nil: it didn't come yet
	amid    string        // it is made when this value is written next
}

func newLate(s driver.Store, key string) *late {
	return &late{Store: s, key: key, armed: true, pending: make(chan struct{})}
}

func (l *late) Swap(ctx context.Context, w driver.Swap) (driver.Result, error) {
	l.mu.Lock()
	hit := l.armed && w.Key == l.key && !w.Remove
	if hit {
		l.armed = false
		l.made = func() { _, _ = l.Store.Swap(context.Background(), w) }
		close(l.pending)
	}
	amid := !hit && !l.armed && l.amid != "" && string(w.Value) == l.amid
	if amid {
		l.amid = ""
	}
	l.mu.Unlock()
	if amid {
		l.made()
		time.Sleep(time.Second) // watches tell of it
	}
	if !hit {
		return l.Store.Swap(ctx, w)
	}
	<-ctx.Done()
	return driver.Result{Outcome: driver.Unknown}, ctx.Err()
}

// A write that the store makes when the attempt that sent it is over, and was
// cleared away, leaves nobody behind who has the lock, or who waits for it.
func TestWritesThatComeLate(t *testing.T) {
	for _, key := range []string{"holder", "queue"} {
		t.Run(key, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := inmemory.NewStore()
				unlock(t, lock(t, newLock(t, open(t, s.Open()), nil))) // so that there is a version to swap
				slow := newLate(s.Open(), "locks/job/"+key)
				l := newLock(t, open(t, slow), nil)
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-slow.pending
					cancel()
				}()
				if _, err := l.Lock(ctx); !errors.Is(err, context.Canceled) {
					t.Fatalf("Lock returned %v", err)
				}
				time.Sleep(ttl) // what it left is cleared away
				began := time.Now()
				got := make(chan struct{})
				go func() { // the session lives on
					defer close(got)
					unlock(t, lock(t, l))
				}()
				slow.made()
				select {
				case <-got:
				case <-time.After(20 * ttl):
					t.Fatalf("nobody has the lock, and nobody gets it")
				}
				if took := time.Since(began); took > ttl {
					t.Errorf("that took %v", took)
				}
			})
		})
	}
}

// So does one that is made while what the attempt left is being cleared away.
func TestWriteThatComesAmidClearing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		slow := newLate(s.Open(), "locks/job/holder")
		slow.amid = "[]" // of the queue
		l := newLock(t, open(t, slow), nil)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-slow.pending
			cancel()
		}()
		if _, err := l.Lock(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("Lock returned %v", err)
		}
		time.Sleep(5 * time.Second) // what it left is cleared away
		again, cancel := context.WithTimeout(t.Context(), 5*ttl)
		defer cancel()
		held, err := l.Lock(again) // the session lives on
		if err != nil {
			t.Fatalf("nobody has the lock, and nobody gets it: %v", err)
		}
		unlock(t, held)
	})
}

// A call that Close ends is over when Close returns: it takes the lock no more, and
// nothing of it is left.
func TestCloseEndsCallsUnderWay(t *testing.T) {
	for _, key := range []string{"holder", "queue"} {
		t.Run(key, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := inmemory.NewStore()
				slow := newLate(s.Open(), "locks/job/"+key)
				l := newLock(t, open(t, slow), nil)
				ended := make(chan error, 1)
				go func() {
					_, err := l.Lock(t.Context())
					ended <- err
				}()
				<-slow.pending
				if err := l.Close(); err != nil {
					t.Error(err)
				}
				select {
				case err := <-ended:
					if !errors.Is(err, kv.ErrClosed) {
						t.Errorf("Lock returned %v", err)
					}
				default:
					t.Error("Lock goes on after Close")
				}
				if _, err := l.Lock(t.Context()); !errors.Is(err, kv.ErrClosed) {
					t.Errorf("Lock after Close returned %v", err)
				}
				time.Sleep(time.Minute)
				keys, err := open(t, s.Open()).List(t.Context(), "locks/job/beats/")
				if err != nil || len(keys) > 0 {
					t.Errorf("Close left %s, %v", strings.Join(keys, " "), err)
				}
			})
		})
	}
}
