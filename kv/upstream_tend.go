package kv

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
)

// tend has a goroutine look after those who wait; u.mu is held.
func (u *upstream) tend() {
	if u.tending || len(u.waiting) == 0 || !u.e.gate.enter() {
		return
	}
	u.tending = true
	u.work.Go(func() {
		defer u.e.gate.leave()
		u.locate()
	})
}

// locate finds out from where on those who wait can be fed, until it is known
// of all. Who comes while the store is asked needs another answer: the write
// that he must see may be newer.
func (u *upstream) locate() {
	pause := u.e.pauses()
	for {
		ok, full := u.ask()
		if !ok {
			return
		}
		if full || u.e.hub.private.Load() {
			u.e.disperse(u)
			continue
		}
		position, _ := u.stand()
		goal, err := u.e.locate(u.ctx, u.rng, position)
		switch {
		case u.ctx.Err() != nil:
			continue
		case errors.Is(err, driver.ErrNotSupported):
			u.e.hub.private.Store(true)
		case err != nil:
			pause.Sleep(u.ctx, u.ctx, nil)
		default:
			pause = u.e.pauses()
			u.located(goal)
		}
	}
}

// ask counts a question to the store, for all who wait without a goal. If there
// are none, or nobody is left, the goroutine that asks ends. full: what the store
// holds is more than is kept, so they can't be fed from here.
func (u *upstream) ask() (ok, full bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked, u.tending = u.asked+1, false
	for _, d := range u.waiting {
		if d.goal == nil || u.held == nil {
			d.asked, u.tending = u.asked, u.ctx.Err() == nil
		}
	}
	return u.tending, u.held == nil
}

// located notes where the store stood after all for whom it was asked had come.
// Who left meanwhile is not told: the answer is of this range.
func (u *upstream) located(goal driver.Position) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, d := range u.waiting {
		if d.asked == u.asked {
			d.goal = goal
		}
	}
	u.advance(goal)
	u.admit(false)
}

// advance moves the position up to one that the session was found to be in step
// with, so that a quiet range doesn't fall behind what the store remembers;
// u.mu is held.
func (u *upstream) advance(to driver.Position) {
	if u.inStep && u.position != nil && u.position.Covers(to) && to.Covers(u.position) {
		u.position = to
	}
}

func (e *engine) locate(ctx context.Context, r Range, from driver.Position) (at driver.Position, err error) {
	err = e.attempt(ctx, "locate", r, e.opts.AttemptTimeout, func(ctx context.Context) (err error) {
		at, err = e.locator.Locate(ctx, r, from)
		return err
	})
	return at, err
}

const (
	// A server that was away is read again by all its clients, a fleet of a
	// thousand perhaps. They begin within a second for each MiB that each of
	// them reads, so that they read a GiB in a second altogether.
	spreadPerMiB = time.Second
	spreadFrom   = 64 << 10
	spreadMost   = 30 * time.Second
)

// spread returns what a driver calls before it reads a range anew that was so
// large when it was read last; nil if that doesn't matter.
func (u *upstream) spread(bytes int) func(ctx context.Context) error {
	if bytes < spreadFrom {
		return nil
	}
	longest := min(time.Duration(float64(bytes)/(1<<20)*float64(spreadPerMiB)), spreadMost)
	return func(ctx context.Context) error {
		return wait.For(ctx, rand.N(longest)) //nolint:gosec // no secret
	}
}
