package coordination_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

const ttl = 10 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// open opens a client of a store in memory.
func open(t *testing.T, s driver.Store) kv.Client {
	c := kv.New(s, codec.String{}, &kv.Options{Logger: quiet})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func newLock(t *testing.T, c kv.Client, observe func(coordination.Event)) *coordination.Lock {
	t.Helper()
	l, err := coordination.NewLock(c, "locks/job", coordination.Options{TTL: ttl, Logger: quiet, Observer: observe})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func lock(t *testing.T, l *coordination.Lock) *coordination.Held {
	t.Helper()
	held, err := l.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return held
}

func unlock(t *testing.T, held *coordination.Held) {
	t.Helper()
	if err := held.Unlock(t.Context()); err != nil {
		t.Error(err)
	}
}

func over(held *coordination.Held) bool {
	select {
	case <-held.Done():
		return true
	default:
		return false
	}
}

// acts writes by a client that is fenced, and reports what became of it.
func act(t *testing.T, held *coordination.Held) error {
	t.Helper()
	c, err := held.Client()
	if err != nil {
		t.Fatal(err)
	}
	return c.CAS(t.Context(), "acts", func(in any) (any, bool, error) {
		acts, _ := in.(string)
		return acts + fmt.Sprintf("%d ", held.Term()), false, nil
	})
}

// wantInOrder wants no act of a holder after one of a later holder.
func wantInOrder(t *testing.T, c kv.Client, least int) {
	t.Helper()
	value, err := c.Get(t.Context(), "acts")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := value.(string)
	var terms []int
	for _, f := range strings.Fields(text) {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		terms = append(terms, n)
	}
	if !slices.IsSorted(terms) || len(terms) < least {
		t.Errorf("acts of terms %v", terms)
	}
}

func TestLockHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		first, second := newLock(t, open(t, s.Open()), nil), newLock(t, open(t, s.Open()), nil)
		held := lock(t, first)
		if _, err := second.TryLock(t.Context()); !errors.Is(err, coordination.ErrHeld) {
			t.Errorf("TryLock of what is held: %v", err)
		}
		got := make(chan *coordination.Held)
		go func() { got <- lock(t, second) }()
		time.Sleep(5 * ttl)
		select {
		case <-got:
			t.Fatal("two have the lock")
		default:
		}
		if err := act(t, held); err != nil {
			t.Errorf("an act of a holder of long: %v", err)
		}
		began := time.Now()
		unlock(t, held)
		next := <-got
		if took := time.Since(began); took > ttl/10 {
			t.Errorf("a lock that was given back was got after %v", took)
		}
		if !errors.Is(held.Err(), coordination.ErrReleased) || !over(held) || over(next) || next.Term() != held.Term()+1 {
			t.Errorf("first: %v; terms %d and %d", held.Err(), held.Term(), next.Term())
		}
		if err := act(t, held); !errors.Is(err, kv.ErrFenced) {
			t.Errorf("an act of a former holder: %v", err)
		}
		if err := act(t, next); err != nil {
			t.Errorf("an act of the holder: %v", err)
		}
		unlock(t, next)
		unlock(t, held) // given back already
		again, err := second.TryLock(t.Context())
		if err != nil {
			t.Fatalf("TryLock of what is free: %v", err)
		}
		unlock(t, again)
	})
}

// A lock of 100 waiters of 10 participants is handed on in the order in which
// they came.
func TestHundredWaitersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		var locks []*coordination.Lock
		for range 10 {
			locks = append(locks, newLock(t, open(t, s.Open()), nil))
		}
		gate := lock(t, locks[0])
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				held := lock(t, locks[i%10])
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				if err := act(t, held); err != nil {
					t.Error(err)
				}
				unlock(t, held)
			})
			synctest.Wait() // it is in the queue
		}
		unlock(t, gate)
		all.Wait()
		if !slices.IsSorted(order) || len(order) != 100 {
			t.Errorf("the order was %v", order)
		}
		wantInOrder(t, open(t, s.Open()), 100)
	})
}

// Clients of one store, many goroutines each: a counter that is read and written
// in two steps under the lock loses nothing.
func TestContendersExcludeEachOther(t *testing.T) {
	s := inmemory.NewStore()
	const clients, contenders, rounds = 8, 8, 3
	counter, inside := 0, 0
	var all sync.WaitGroup
	for range clients {
		l := newLock(t, open(t, s.Open()), nil)
		for range contenders {
			all.Go(func() {
				for range rounds {
					held := lock(t, l)
					if inside++; inside != 1 {
						t.Error("two have the lock")
					}
					counter++
					if err := act(t, held); err != nil {
						t.Error(err)
					}
					inside--
					unlock(t, held)
				}
			})
		}
	}
	all.Wait()
	if counter != clients*contenders*rounds {
		t.Errorf("%d of %d turns", counter, clients*contenders*rounds)
	}
	wantInOrder(t, open(t, s.Open()), counter)
}

// Close gives back what is held and ends those that wait; nothing stays in the
// store but who had the lock last.
func TestCloseGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		c := open(t, s.Open())
		l := newLock(t, c, nil)
		held := lock(t, l)
		ended := make(chan error)
		go func() {
			_, err := l.Lock(t.Context())
			ended <- err
		}()
		synctest.Wait()
		if err := errors.Join(l.Close(), l.Close()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, kv.ErrClosed) {
			t.Errorf("a call that waits returned %v", err)
		}
		if !over(held) || !errors.Is(held.Err(), coordination.ErrReleased) {
			t.Errorf("the hold: %v", held.Err())
		}
		if _, err := l.TryLock(t.Context()); !errors.Is(err, kv.ErrClosed) {
			t.Errorf("a call after Close returned %v", err)
		}
		other := newLock(t, c, nil)
		began := time.Now()
		unlock(t, lock(t, other))
		if took := time.Since(began); took > ttl/10 {
			t.Errorf("the next one waited %v", took)
		}
		_ = other.Close()
		keys, err := c.List(t.Context(), "")
		if err != nil || !slices.Equal(keys, []string{"locks/job/holder", "locks/job/queue"}) {
			t.Errorf("the store holds %v, %v", keys, err)
		}
	})
}

// nodeClient is what a client on gossip says of itself.
type nodeClient struct{ kv.Forward }

func (nodeClient) Linearizable() bool { return false }

func TestRefusedWhenMade(t *testing.T) {
	c := open(t, inmemory.NewStore().Open())
	for name, refused := range map[string]struct {
		c    kv.Client
		key  string
		opts coordination.Options
		want error
	}{
		"gossip":      {nodeClient{kv.Forward{Client: c}}, "lock", coordination.Options{}, kv.ErrNotSupported},
		"no extras":   {struct{ kv.Client }{c}, "lock", coordination.Options{}, kv.ErrNotSupported},
		"no key":      {c, "a//b", coordination.Options{}, kv.ErrInvalidKey},
		"a long key":  {c, strings.Repeat("k", kv.MaxKeyLen-10), coordination.Options{}, kv.ErrInvalidKey}, // which beats don't fit
		"a short TTL": {c, "lock", coordination.Options{TTL: time.Millisecond}, nil},
	} {
		if _, err := coordination.NewLock(refused.c, refused.key, refused.opts); err == nil || refused.want != nil && !errors.Is(err, refused.want) {
			t.Errorf("%s: a lock: %v", name, err)
		}
		if _, err := coordination.NewElection(refused.c, refused.key, refused.opts); err == nil || refused.want != nil && !errors.Is(err, refused.want) {
			t.Errorf("%s: an election: %v", name, err)
		}
	}
}

// listed is a store that lists what is asked of it about who has the lock.
type listed struct {
	driver.Store
	mu  sync.Mutex
	ops []string
}

func (l *listed) note(key, op string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if key == "locks/job/holder" {
		l.ops = append(l.ops, op)
	}
}

func (l *listed) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	l.note(req.Key, "get")
	return l.Store.Get(ctx, req)
}

func (l *listed) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	l.note(s.Key, "swap")
	return l.Store.Swap(ctx, s)
}

// A lock is handed on by two writes, which name the version that they replace:
// neither the one who gives it back nor the next one reads it before.
func TestHandingOnTakesNoRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inmemory.NewStore()
		giver, taker := &listed{Store: s.Open()}, &listed{Store: s.Open()}
		held := lock(t, newLock(t, open(t, giver), nil))
		next := make(chan *coordination.Held)
		l := newLock(t, open(t, taker), nil)
		go func() { next <- lock(t, l) }()
		synctest.Wait()
		given, taken := len(giver.ops), len(taker.ops)
		unlock(t, held)
		unlock(t, <-next)
		synctest.Wait()
		if giver.ops[given] != "swap" || taker.ops[taken] != "swap" {
			t.Errorf("it was given back by %v, and taken by %v", giver.ops[given:], taker.ops[taken:])
		}
	})
}
