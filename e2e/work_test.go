package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

// A worker is a goroutine of one client that works on the round's keys.
type worker struct {
	round *round
	of    *member
	name  string // in the values it writes
	rand  *rand.Rand
	next  int
}

// opLots is how often an operation is drawn.
var opLots = []struct {
	lots int
	run  func(*worker)
}{
	{6, func(w *worker) { w.cas(opWrite) }},
	{2, func(w *worker) { w.cas(opRemove) }},
	{1, func(w *worker) { w.cas(opDecline) }},
	{1, (*worker).delete},
	{3, (*worker).get},
	{1, (*worker).list},
	{4, (*worker).count},
}

// run works until the round says that it is enough.
func (w *worker) run(enough <-chan struct{}) {
	lots := 0
	for _, o := range opLots {
		lots += o.lots
	}
	for {
		select {
		case <-enough:
			return
		case <-time.After(w.round.pace + time.Duration(w.rand.Int64N(int64(w.round.pace)))):
		}
		n := w.rand.IntN(lots)
		for _, o := range opLots {
			if n -= o.lots; n < 0 {
				w.round.gate.RLock()
				o.run(w)
				w.round.gate.RUnlock()
				break
			}
		}
	}
}

// ctx is that of one operation. Few have a deadline, and then a close one.
func (w *worker) ctx() (ctx context.Context, cancel context.CancelFunc, limited bool) {
	if w.rand.IntN(12) > 0 {
		return context.Background(), func() {}, false
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Duration(1+w.rand.IntN(400))*time.Millisecond)
	return ctx, cancel, true
}

func (w *worker) history() *history {
	return w.round.histories[w.rand.IntN(len(w.round.histories))]
}

// fate says what an error means for whether an operation happened. It must be
// one that the contract allows in this round.
func (w *worker) fate(o *op, begun time.Time, limited bool, err error) fate {
	o.err = err
	if err == nil {
		return done
	}
	took := time.Since(begun)
	cancelled := errors.Is(err, context.DeadlineExceeded)
	switch {
	case errors.Is(err, kv.ErrIndeterminate) && o.kind != opGet && o.kind != opListed:
		return maybe
	case cancelled && limited:
		return never
	case errors.Is(err, kv.ErrUnavailable):
		// A1: it was tried for RetryTimeout, the last pause left out.
		if patience := w.round.options.RetryTimeout - 2*w.round.options.MaxBackoff; took < patience {
			w.round.fail("%s by %s gave up after %v: %v", o.kind, w.name, took, err)
		}
		return never
	case errors.Is(err, kv.ErrPermission) && w.round.mayRefuse(begun):
		return never
	}
	w.round.fail("%s by %s ended after %v with %v", o.kind, w.name, took, err)
	return maybe
}

// do runs one operation, notes it with how it ended, and tells the rest.
func (w *worker) do(h *history, kind opKind, operate func(ctx context.Context, o *op) error) {
	ctx, cancel, limited := w.ctx()
	defer cancel()
	o := op{kind: kind, client: w.of.id}
	begun := time.Now()
	o.call = w.round.since(begun)
	err := operate(ctx, &o)
	o.ret = w.round.now()
	o.fate = w.fate(&o, begun, limited, err)
	w.round.tally.ended(o, begun)
	h.add(o)
}

func (w *worker) cas(kind opKind) {
	w.next++
	h, run := w.history(), 0
	w.do(h, kind, func(ctx context.Context, o *op) error {
		return w.of.client.CAS(ctx, h.key, func(in any) (any, bool, error) {
			run++
			if w.rand.IntN(200) == 0 {
				time.Sleep(150 * time.Millisecond) // a slow callback, which is to be overtaken
			}
			o.saw, _ = in.(string)
			o.kind, o.wrote = kind, ""
			switch {
			case kind == opWrite:
				o.wrote = fmt.Sprintf("%s.%d.%d", w.name, w.next, run)
				return o.wrote, false, nil
			case kind == opRemove && in != nil:
				return kv.Remove, false, nil
			}
			o.kind = opDecline
			return nil, false, nil
		})
	})
}

func (w *worker) delete() {
	h := w.history()
	w.do(h, opDelete, func(ctx context.Context, _ *op) error { return w.of.client.Delete(ctx, h.key) })
}

func (w *worker) get() {
	h := w.history()
	w.do(h, opGet, func(ctx context.Context, o *op) error {
		got, err := w.of.client.Get(ctx, h.key)
		o.saw, _ = got.(string)
		return err
	})
}

// list is a look at every key; it is noted for a few.
func (w *worker) list() {
	h := w.history()
	w.do(h, opListed, func(ctx context.Context, o *op) error {
		keys, err := w.of.client.List(ctx, w.round.prefix)
		if !slices.IsSorted(keys) {
			w.round.fail("List is not sorted: %q", keys)
		}
		if _, there := slices.BinarySearch(keys, h.key); there {
			o.saw = "something"
		}
		return err
	})
}

// A counter is a key that is only ever incremented.
type counter struct {
	key string

	mu            sync.Mutex
	done, unknown int
}

func (c *counter) tell(f fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f {
	case done:
		c.done++
	case maybe:
		c.unknown++
	}
}

// setBack says that a backup was restored, in which the counter is at n.
func (c *counter) setBack(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = n
}

// check compares the counter with what the store has.
func (c *counter) check(got any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	if text, ok := got.(string); ok {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("%q: %w", c.key, err)
		}
	}
	if n < c.done || n > c.done+c.unknown {
		return fmt.Errorf("%q is %d; %d increments succeeded, and %d may have happened", c.key, n, c.done, c.unknown)
	}
	return nil
}

func (w *worker) count() {
	c := w.round.counters[w.rand.IntN(len(w.round.counters))]
	ctx, cancel, limited := w.ctx()
	defer cancel()
	o := op{kind: opWrite, client: w.of.id}
	begun := time.Now()
	err := w.of.client.CAS(ctx, c.key, increment)
	o.fate = w.fate(&o, begun, limited, err)
	w.round.tally.ended(o, begun)
	c.tell(o.fate)
}
