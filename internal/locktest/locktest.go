// Package locktest judges what participants of a lock did and saw.
package locktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kvtest"
)

// step is something that succeeded: a lock was Taken, something was written under
// its fence, it was given back.
type step struct {
	kind Kind
	term uint64
}

// Kind is what kind of step it is.
type Kind string

// The kinds.
const (
	Taken     Kind = "taken"
	Wrote     Kind = "wrote"
	GivenBack Kind = "given back"
)

// holders is a register of who holds a lock: its term, and whether that was given
// back. A term begins after all that were before it, and nothing is written under
// one that is over.
var holders = porcupine.Model{
	Init: func() any { return step{GivenBack, 0} },
	Step: func(state, input, _ any) (bool, any) {
		now, _ := state.(step)
		next, _ := input.(step)
		switch next.kind {
		case Taken:
			return next.term > now.term, next
		case Wrote:
			return next.term == now.term && now.kind == Taken, now
		default:
			return next.term == now.term && now.kind == Taken, next
		}
	},
	DescribeOperation: func(input, _ any) string { return fmt.Sprint(input) },
}

// History is what participants saw. Its clock counts, since time stands still in
// a bubble while anybody has something to do.
type History struct {
	clock atomic.Int64
	mu    sync.Mutex
	ops   []porcupine.Operation
	Tally map[Kind]int
	Late  int // acts of former holders, which were refused
}

// do notes a step if it succeeds. The term is known afterwards only.
func (h *History) do(client int, kind Kind, make func() (uint64, error)) error {
	call := h.clock.Add(1)
	term, err := make()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: step{kind, term}, Call: call, Return: h.clock.Add(1)})
	h.Tally[kind]++
	return nil
}

// participate takes the lock again and again, writes under its fence without ever
// looking whether it still holds it, and gives it back, or doesn't.
func (h *History) participate(ctx context.Context, id int, random *rand.Rand, l *coordination.Lock, length time.Duration) {
	for ctx.Err() == nil {
		var held *coordination.Held
		err := h.do(id, Taken, func() (_ uint64, err error) {
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
			err := h.do(id, Wrote, func() (uint64, error) { return held.Term(), Append(ctx, c, held.Term()) })
			if errors.Is(err, kv.ErrFenced) {
				h.mu.Lock()
				h.Late++
				h.mu.Unlock()
			}
			Pause(ctx, time.Duration(random.Int64N(int64(length))))
		}
		_ = h.do(id, GivenBack, func() (uint64, error) { return held.Term(), held.Unlock(ctx) })
	}
}

// Pause waits for d, or until ctx is done.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Options say what a lock goes through.
type Options struct {
	Seed       uint64
	TTL, Lasts time.Duration
	Open       func(participant int) driver.Store // one of four

	// Client, unless nil, takes the place of Open: it opens clients of strings,
	// whose lines are left alone.
	Client func(participant int) kv.Client

	// Disrupt, unless nil, harms the store until ctx is done.
	Disrupt func(ctx context.Context)
}

func (o *Options) open(participant int, quiet *slog.Logger) (kv.Client, *kvtest.Store) {
	if o.Client != nil {
		return o.Client(participant), nil
	}
	line := kvtest.Wrap(o.Open(participant))
	return kv.New(line, codec.String{}, &kv.Options{Logger: quiet}), line
}

// Run has participants fight for a lock for a while, each over a line of
// its own that hangs and breaks, for longer than the TTL at times, and judges what
// they saw.
func Run(t *testing.T, o Options) *History {
	t.Helper()
	h := &History{Tally: map[Kind]int{}}
	quiet := slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithTimeout(t.Context(), o.Lasts)
	defer cancel()

	var all sync.WaitGroup
	for id := range 4 {
		c, line := o.open(id, quiet)
		l, err := coordination.NewLock(c, "locks/job", coordination.Options{TTL: o.TTL, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(o.Seed, uint64(2*id)))
		faults := rand.New(rand.NewPCG(o.Seed, uint64(2*id+1)))
		all.Go(func() {
			h.participate(ctx, id, random, l, o.TTL/4)
			if line != nil {
				line.Mend()
			}
			_ = l.Close()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			for line != nil && ctx.Err() == nil {
				Pause(ctx, time.Duration(faults.Int64N(int64(4*o.TTL))))
				if faults.IntN(2) == 0 {
					line.Cut()
				} else {
					line.Hang()
				}
				Pause(ctx, time.Duration(faults.Int64N(int64(2*o.TTL))))
				line.Mend()
			}
		})
	}
	if o.Disrupt != nil {
		all.Go(func() { o.Disrupt(ctx) })
	}
	all.Wait()
	if result, _ := porcupine.CheckOperationsVerbose(holders, h.ops, 0); result != porcupine.Ok {
		t.Errorf("seed %d: the lock is no register of holders: %v", o.Seed, h.ops)
	}
	return h
}

// Append adds a term to the list of acts.
func Append(ctx context.Context, c kv.Client, term uint64) error {
	return c.CAS(ctx, "acts", func(in any) (any, bool, error) {
		acts, _ := in.(string)
		if len(acts) > 20_000 { // of a holder that went on and on
			acts = acts[len(acts)-10_000:]
			acts = acts[strings.IndexByte(acts, ' ')+1:]
		}
		return acts + fmt.Sprintf("%d ", term), false, nil
	})
}
