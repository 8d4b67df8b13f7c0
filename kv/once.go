package kv

import (
	"errors"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// once tries c by itself, in g if it is not nil, which c leads. It returns
// errUnfinished if the call must go on in a group, and errEvicted if that went on
// without it.
func (e *engine) once(c *casCall, g *group) error {
	// A read made by this call began no earlier than the call, which is all
	// that a decision not to write needs to know.
	base, err := e.base(c.ctx, c.id.key, c.guards, c.begun)
	if err != nil {
		return e.orShare(c, err)
	}
	began, leads := c.clock(), true
	if g != nil {
		g.enter()
	}
	d := c.decide(stateOf(base.entry))
	if g != nil {
		leads = g.exit(c)
	}
	if c.ctx.Err() != nil || e.ctx.Err() != nil {
		return e.ended(c.ctx, nil)
	}
	err = e.conclude(c, &base, &d)
	switch {
	case err != errUnfinished: //nolint:errorlint // never wrapped, on the hot path
	case !leads:
		c.evicted()
		return errEvicted
	default:
		c.worked(began)
	}
	return err
}

// conclude carries out what a single caller decided on base. It returns
// errUnfinished if the call must go on in a group.
func (e *engine) conclude(c *casCall, base *cached, d *decision) error {
	if !d.writes() {
		same, err := e.confirm(c.ctx, c.id.key, c.guards, base, c.begun)
		switch {
		case err != nil:
			return e.orShare(c, err)
		case !same:
			c.conflicted()
			return errUnfinished
		}
		return d.result()
	}
	s := c.swap(&base.entry, state{}.after(d))
	result, err := e.settle(c.ctx, &s, 1)
	switch {
	case err == nil && result.Outcome == driver.Applied:
		return nil
	case err == nil:
		c.conflicted()
		return errUnfinished
	case c.f == nil && gone(err):
		return nil
	}
	return e.orShare(c, err)
}

// orShare returns err if it is final, and otherwise notes the failure and
// leaves the call to a group, which retries.
func (e *engine) orShare(c *casCall, err error) error {
	if final, err := e.final(c.ctx, err); final {
		return err
	}
	c.failingSince, c.failure = time.Now(), err
	return errUnfinished
}

// gone reports whether a deletion of unknown outcome found the key absent.
// Whoever deleted it did so after the call began, so the call is done.
func gone(err error) bool {
	var unknown *indeterminate
	return errors.As(err, &unknown) && unknown.now != nil && !unknown.now.Exists()
}
