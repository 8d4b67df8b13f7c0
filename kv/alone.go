package kv

import (
	"errors"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// errEvicted ends a round of a call whose callback held the others up for too
// long and whose decision was overtaken.
var errEvicted = errors.New("evicted")

// errDemoted ends the part of a call that it could do by itself.
var errDemoted = errors.New("demoted")

// try ends with the call's result. A call that is alone with its key runs
// on its own goroutine from start to end; as soon as others want the key too,
// or anything unusual happens, it becomes a member of a group.
func (e *engine) try(c *casCall) error {
	for {
		cl, alone := e.cells.join(e, c)
		err := errDemoted
		if alone {
			err = e.alone(cl, c)
		}
		if err == errDemoted { //nolint:errorlint // never wrapped, on the hot path
			err = e.attend(cl, c)
		}
		if err != errEvicted { //nolint:errorlint // as above
			return err
		}
		if e.overdue(c) {
			return ErrConflict
		}
	}
}

// alone runs c as the only caller of its key.
func (e *engine) alone(cl *cell, c *casCall) error {
	handedOver := false
	defer func() {
		if !handedOver { // also after a panic or a Goexit of the callback
			cl.release(c)
		}
	}()
	err := e.aloneOnce(cl, c)
	if err == errDemoted { //nolint:errorlint // never wrapped, on the hot path
		handedOver = true
		cl.demote(e, c)
	}
	return err
}

func (e *engine) aloneOnce(cl *cell, c *casCall) error {
	// A read made by this call began no earlier than the call, which is all
	// that a decision not to write needs to know.
	base, err := e.base(c.ctx, c.id.key, c.guards, c.begun)
	if err != nil {
		return e.orDemote(c, err)
	}
	began := c.clock()
	cl.enterCallback()
	d := c.decide(stateOf(base.entry))
	evicted := cl.leaveCallback(c)
	if c.ctx.Err() != nil || e.ctx.Err() != nil {
		return e.ended(c.ctx, nil)
	}
	err = e.conclude(c, &base, &d)
	switch {
	case !evicted:
		if err == errDemoted { //nolint:errorlint // never wrapped, on the hot path
			c.worked(began)
		}
		return err
	case err == errDemoted: //nolint:errorlint // as above
		c.evicted()
		return errEvicted
	}
	return err
}

// orDemote returns err if it is final, and otherwise notes the failure and
// leaves the call to a group, which retries.
func (e *engine) orDemote(c *casCall, err error) error {
	if final, err := e.final(c.ctx, err); final {
		return err
	}
	c.failingSince = time.Now()
	return errDemoted
}

// conclude carries out what a single caller decided on base. It returns
// errDemoted if the call must go on in a group.
func (e *engine) conclude(c *casCall, base *recollection, d *decision) error {
	if !d.writes() {
		same, err := e.confirm(c.ctx, c.id.key, c.guards, base, c.begun)
		switch {
		case err != nil:
			return e.orDemote(c, err)
		case !same:
			c.conflicted()
			return errDemoted
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
		return errDemoted
	case c.f == nil && gone(err):
		return nil
	}
	return e.orDemote(c, err)
}

// gone reports whether a deletion of unknown outcome found the key absent.
// Whoever deleted it did so after the call began, so the call is done.
func gone(err error) bool {
	var unknown *indeterminate
	return errors.As(err, &unknown) && unknown.now != nil && !unknown.now.Exists()
}
