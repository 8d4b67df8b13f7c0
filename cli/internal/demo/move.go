package demo

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Move is the moving of the data to another store under the clients.
type Move struct {
	From, To string // the names of the stores

	// Cutover moves everything, and returns when the other store serves it.
	Cutover func(ctx context.Context) error

	// Compare counts the keys of both stores together, and those that differ,
	// of which it returns the first. Nobody writes any more.
	Compare func(ctx context.Context) (keys, different int, first string, err error)
}

// moving is how the move went.
type moving struct {
	after, took time.Duration
	err         error
	done        chan struct{}
}

// move runs the cutover in the middle of the run.
func (r *run) move(ctx context.Context) *moving {
	m := &moving{done: make(chan struct{})}
	if r.Move == nil {
		close(m.done)
		return m
	}
	go func() {
		defer close(m.done)
		middle := time.NewTimer(r.Duration / 2)
		defer middle.Stop()
		select {
		case <-middle.C:
		case <-ctx.Done(): // interrupted: the move is made all the same, and checked
		}
		m.after = time.Since(r.start)
		began := time.Now()
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if err := r.Move.Cutover(bounded); err != nil {
			m.err = fmt.Errorf("could not move the data from %s to %s: %w", r.Move.From, r.Move.To, err)
		}
		m.took = time.Since(began)
	}()
	return m
}

// pauses finds the longest time without a write that ended.
type pauses struct{ last, longest atomic.Int64 } // nanoseconds

// wrote notes that a write ended so long after the start of the run.
func (p *pauses) wrote(at time.Duration) {
	if before := p.last.Swap(int64(at)); before > 0 {
		raise(&p.longest, int64(at)-before)
	}
}

// verifyMove compares the stores until they are equal, or for Settle: what is
// mirrored back may come late.
func (r *run) verifyMove(ctx context.Context) error {
	if r.Move == nil {
		return nil
	}
	if r.moved.err != nil {
		return r.moved.err
	}
	promise := &r.promises.moved
	for deadline := time.Now().Add(r.Settle); ; time.Sleep(tick) {
		keys, different, first, err := r.Move.Compare(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("could not compare the stores: %w", err)
		case different == 0:
			promise.Evidence = count(int64(keys), "key") + " of both"
			return nil
		case time.Now().After(deadline):
			promise.Evidence = fmt.Sprintf("%s of both", count(int64(keys), "key"))
			promise.breaks("%s, %s among them", count(int64(different), "key")+" differ", first)
			return nil
		}
	}
}

// story tells how the move went.
func (r *run) story() string {
	return fmt.Sprintf("After %v everything was moved from %s to %s in %s.\nThe longest time without a write was %s.",
		r.moved.after.Round(time.Millisecond), r.Move.From, r.Move.To, short(r.moved.took), short(time.Duration(r.pauses.longest.Load())))
}
