// Package locktest judges what participants of a lock did and saw.
package locktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kvtest"
)

// step is something that succeeded.
type step struct {
	kind string
	term uint64
}

// The kinds of step: a lock was taken, something was written under its fence, it
// was given back.
const (
	Taken     = "taken"
	Wrote     = "wrote"
	GivenBack = "given back"
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
	clock  atomic.Int64
	mu     sync.Mutex
	ops    []porcupine.Operation
	newest uint64 // of the terms
	Tally  map[string]int
	Late   int // acts of former holders: refused, or written without a fence
}

// do notes a step if it succeeds. The term is known afterwards only.
func (h *History) do(client int, kind string, make func() (uint64, error)) error {
	call := h.clock.Add(1)
	term, err := make()
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: step{kind, term}, Call: call, Return: h.clock.Add(1)})
	h.Tally[kind]++
	h.newest = max(h.newest, term)
	return nil
}

// over reports whether a later term than this has begun.
func (h *History) over(term uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.newest > term
}

// act writes under a term without ever looking whether that is over.
func (h *History) act(ctx context.Context, client int, c kv.Client, term uint64) {
	over := h.over(term)
	err := h.do(client, Wrote, func() (uint64, error) { return term, Append(ctx, c, term) })
	if errors.Is(err, kv.ErrFenced) || over && err == nil {
		h.mu.Lock()
		h.Late++
		h.mu.Unlock()
	}
}

// enough reports whether as much happened as was asked for.
func (h *History) enough(o Options) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.Tally[Taken] >= o.Holds && h.Late >= o.Late
}

// process is a participant, of which two goroutines want the lock.
type process struct {
	h      *History
	o      Options
	client kv.Client
	line   *kvtest.Store // nil: left alone
	harm   chan struct{} // holds a value while somebody harms the line
	lock   *coordination.Lock
}

// turn takes the lock, writes under its fence, and gives it back. At times the
// process is stopped until another one took over, and writes then.
func (p *process) turn(ctx context.Context, id int, random *rand.Rand) {
	var held *coordination.Held
	err := p.h.do(id, Taken, func() (_ uint64, err error) {
		if held, err = p.lock.Lock(ctx); err != nil {
			return 0, err
		}
		return held.Term(), nil
	})
	if err != nil {
		return
	}
	c, err := held.Client()
	if err != nil {
		return
	}
	if p.o.Unfenced {
		c = p.client
	}
	for range random.IntN(6) {
		p.h.act(ctx, id, c, held.Term())
		_ = wait.For(ctx, time.Duration(random.Int64N(int64(p.o.TTL/16))))
	}
	if random.IntN(4) == 0 || p.o.Unfenced {
		p.harmed((*kvtest.Store).Hang, func() {
			for ctx.Err() == nil && !p.h.over(held.Term()) {
				_ = wait.For(ctx, p.o.TTL/20)
			}
		})
		p.h.act(ctx, id, c, held.Term())
	}
	_ = p.h.do(id, GivenBack, func() (uint64, error) { return held.Term(), held.Unlock(ctx) })
}

// harmed does something while the line is harmed, by nobody else.
func (p *process) harmed(how func(*kvtest.Store), do func()) {
	if p.line != nil {
		p.harm <- struct{}{}
		how(p.line)
		do()
		p.line.Mend()
		<-p.harm
	}
}

// suffer harms the line at random until ctx is done.
func (p *process) suffer(ctx context.Context, random *rand.Rand) {
	for p.line != nil && ctx.Err() == nil {
		_ = wait.For(ctx, time.Duration(random.Int64N(int64(4*p.o.TTL))))
		how := []func(*kvtest.Store){(*kvtest.Store).Cut, (*kvtest.Store).Hang}[random.IntN(2)]
		p.harmed(how, func() { _ = wait.For(ctx, time.Duration(random.Int64N(int64(2*p.o.TTL)))) })
	}
}

// Options say what a lock goes through.
type Options struct {
	Seed       uint64
	TTL, Lasts time.Duration
	Open       func(participant int) driver.Store // one of four

	// Holds and Late, unless both are 0, end the run as soon as there were so many
	// holds and acts of former holders, but no fenced one where POLYKV_SOAK asks for
	// a soak. That there weren't after Lasts is an error.
	Holds, Late int

	// Unfenced has holders write without the fence, and be stopped each time. That
	// the history shows it is then asked for.
	Unfenced bool

	// Client, unless nil, takes the place of Open: it opens clients of strings,
	// whose lines are left alone.
	Client func(participant int) kv.Client

	// Disrupt, unless nil, harms the store until ctx is done.
	Disrupt func(ctx context.Context)
}

func (h *History) process(t *testing.T, o Options, participant int) *process {
	p := &process{h: h, o: o, harm: make(chan struct{}, 1)}
	quiet := slog.New(slog.DiscardHandler)
	if o.Client != nil {
		p.client = o.Client(participant)
	} else {
		p.line = kvtest.Wrap(o.Open(participant))
		p.client = kv.New(p.line, codec.String{}, &kv.Options{Logger: quiet})
	}
	var err error
	if p.lock, err = coordination.NewLock(p.client, "locks/job", coordination.Options{TTL: o.TTL, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	return p
}

// Run has participants fight for a lock for a while, each over a line of
// its own that hangs and breaks, for longer than the TTL at times, and judges what
// they saw.
func Run(t *testing.T, o Options) *History {
	t.Helper()
	h := &History{Tally: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), o.Lasts)
	defer cancel()

	early := o.Holds+o.Late > 0 && (o.Unfenced || os.Getenv("POLYKV_SOAK") == "")
	var all sync.WaitGroup
	for participant := range 4 {
		p := h.process(t, o, participant)
		var turns sync.WaitGroup
		for i := range 2 {
			id := 2*participant + i
			random := rand.New(rand.NewPCG(o.Seed, uint64(id)))
			turns.Go(func() {
				for ctx.Err() == nil {
					p.turn(ctx, id, random)
					if early && h.enough(o) {
						cancel()
					}
				}
			})
		}
		turns.Go(func() { p.suffer(ctx, rand.New(rand.NewPCG(o.Seed, uint64(1000+participant)))) })
		all.Go(func() {
			turns.Wait()
			_ = p.lock.Close()
			if err := p.client.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	if o.Disrupt != nil {
		all.Go(func() { o.Disrupt(ctx) })
	}
	all.Wait()
	if !h.enough(o) {
		t.Errorf("seed %d: too little happened: %v, and %d acts of former holders", o.Seed, h.Tally, h.Late)
	}
	result, _ := porcupine.CheckOperationsVerbose(holders, h.ops, 0)
	switch {
	case o.Unfenced && result == porcupine.Ok:
		t.Errorf("seed %d: %d acts of former holders without a fence were not noticed: %v", o.Seed, h.Late, h.ops)
	case !o.Unfenced && result != porcupine.Ok:
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
