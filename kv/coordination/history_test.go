package coordination_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kvtest"
)

// step is something that succeeded: a lock was taken, something was written under
// its fence, it was given back.
type step struct {
	kind stepKind
	term uint64
}

type stepKind string

const (
	taken  stepKind = "taken"
	wrote  stepKind = "wrote"
	lastly stepKind = "given back"
)

// holders is a register of who holds a lock: its term, and whether that was given
// back. A term begins after all that were before it, and nothing is written under
// one that is over.
var holders = porcupine.Model{
	Init: func() any { return step{lastly, 0} },
	Step: func(state, input, _ any) (bool, any) {
		now, _ := state.(step)
		next, _ := input.(step)
		switch next.kind {
		case taken:
			return next.term > now.term, next
		case wrote:
			return next.term == now.term && now.kind == taken, now
		default:
			return next.term == now.term && now.kind == taken, next
		}
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprint(input) },
}

// history is what participants saw. Its clock counts, since time stands still in
// a bubble while anybody has something to do.
type history struct {
	clock atomic.Int64
	mu    sync.Mutex
	ops   []porcupine.Operation
	tally map[stepKind]int
	late  int // acts of former holders, which were refused
}

// do notes a step if it succeeds. The term is known afterwards only.
func (h *history) do(client int, kind stepKind, make func() (uint64, error)) error {
	call := h.clock.Add(1)
	term, err := make()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: step{kind, term}, Call: call, Return: h.clock.Add(1)})
	h.tally[kind]++
	return nil
}

// participate takes the lock again and again, writes under its fence without ever
// looking whether it still holds it, and gives it back, or doesn't.
func (h *history) participate(ctx context.Context, id int, random *rand.Rand, l *coordination.Lock, length time.Duration) {
	for ctx.Err() == nil {
		var held *coordination.Held
		err := h.do(id, taken, func() (_ uint64, err error) {
			if held, err = l.Lock(ctx); err != nil {
				return 0, err
			}
			return held.Term(), nil
		})
		if err != nil {
			continue
		}
		c, err := held.Client()
		if err != nil {
			continue
		}
		for range random.IntN(6) {
			err := h.do(id, wrote, func() (uint64, error) { return held.Term(), appendTerm(ctx, c, held.Term()) })
			if errors.Is(err, kv.ErrFenced) {
				h.mu.Lock()
				h.late++
				h.mu.Unlock()
			}
			pause(ctx, time.Duration(random.Int64N(int64(length))))
		}
		_ = h.do(id, lastly, func() (uint64, error) { return held.Term(), held.Unlock(ctx) })
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// lockHistory has participants fight for a lock for a while, each over a line of
// its own that hangs and breaks, for longer than the TTL at times, and judges what
// they saw.
func lockHistory(t *testing.T, seed uint64, ttl, lasts time.Duration, open func() driver.Store) *history {
	h := &history{tally: map[stepKind]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	var all sync.WaitGroup
	for id := range 4 {
		line := kvtest.Wrap(open())
		c := kv.New(line, codec.String{}, &kv.Options{Logger: quiet})
		l, err := coordination.NewLock(c, "locks/job", coordination.Options{TTL: ttl, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(seed, uint64(2*id)))
		faults := rand.New(rand.NewPCG(seed, uint64(2*id+1)))
		all.Go(func() {
			h.participate(ctx, id, random, l, ttl/4)
			line.Mend()
			_ = l.Close()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			for ctx.Err() == nil {
				pause(ctx, time.Duration(faults.Int64N(int64(4*ttl))))
				if faults.IntN(2) == 0 {
					line.Cut()
				} else {
					line.Hang()
				}
				pause(ctx, time.Duration(faults.Int64N(int64(2*ttl))))
				line.Mend()
			}
		})
	}
	all.Wait()
	if result, _ := porcupine.CheckOperationsVerbose(holders, h.ops, 0); result != porcupine.Ok {
		t.Errorf("seed %d: the lock is no register of holders: %v", seed, h.ops)
	}
	return h
}

// TestLockHistories judges many histories in virtual time.
func TestLockHistories(t *testing.T) {
	total := history{tally: map[stepKind]int{}}
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			s := inmemory.NewStore()
			h := lockHistory(t, seed, ttl, 20*time.Minute, func() driver.Store { return s.Open() })
			for kind, n := range h.tally {
				total.tally[kind] += n
			}
			total.late += h.late
		})
	}
	t.Logf("%v, and %d acts of former holders, refused", total.tally, total.late)
	if total.tally[taken] < 1000 || total.tally[wrote] < 1000 || total.tally[lastly] < 500 || total.late < 10 {
		t.Errorf("too little happened: %v, and %d acts of former holders", total.tally, total.late)
	}
}

// TestLockHistoriesOnServers judges a history on each real server.
func TestLockHistoriesOnServers(t *testing.T) {
	t.Parallel()
	etcdServer := servertest.Etcd(t, testserver.Options{NoFsync: true})
	consulServer := servertest.Consul(t, testserver.Options{})
	for name, open := range map[string]func() (driver.Store, error){
		"etcd": func() (driver.Store, error) {
			cfg := etcd.DefaultConfig()
			cfg.Endpoints = etcdServer.Endpoints()
			return etcd.Open(cfg, quiet)
		},
		"consul": func() (driver.Store, error) {
			cfg := consul.DefaultConfig()
			cfg.Address = consulServer.Endpoints()[0]
			return consul.Open(cfg, quiet)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			h := lockHistory(t, seed, 2*time.Second, 20*time.Second, func() driver.Store {
				store, err := open()
				if err != nil {
					t.Fatal(err)
				}
				return store
			})
			t.Logf("seed %d: %v, and %d acts of former holders, refused", seed, h.tally, h.late)
			if h.tally[taken] == 0 || h.tally[wrote] == 0 {
				t.Errorf("nothing happened: %v", h.tally)
			}
		})
	}
}
