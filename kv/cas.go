package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
)

// errUnfinished ends the part of a call that it could do by itself.
var errUnfinished = errors.New("unfinished")

// errEvicted ends a membership of a call whose callback held the others up for
// too long and whose decision was overtaken.
var errEvicted = errors.New("evicted")

type casFunc = func(in any) (out any, retry bool, err error)

// CAS implements Client.
func (c *client) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	return c.cas(ctx, "CAS", key, f, nil)
}

// CASGuarded implements GuardedClient.
func (c *client) CASGuarded(ctx context.Context, key string, f func(in any) (out any, retry bool, err error), guards ...Guard) error {
	return c.cas(ctx, "CASGuarded", key, f, guards)
}

// Delete implements Client. It is a CAS that removes: conditional on what it
// removes, a deletion can be repeated after a lost answer without ever taking
// a key that was created since.
func (c *client) Delete(ctx context.Context, key string) error {
	return c.cas(ctx, "Delete", key, nil, nil)
}

// DeleteGuarded implements GuardedClient.
func (c *client) DeleteGuarded(ctx context.Context, key string, guards ...Guard) error {
	return c.cas(ctx, "DeleteGuarded", key, nil, guards)
}

func (c *client) cas(ctx context.Context, op, key string, f casFunc, guards []Guard) error {
	guards = slices.Clone(guards) // a request may outlive the call that it was made for
	if err := c.admit(ctx, key, guards); err != nil {
		return c.fail(op, key, err)
	}
	e := c.engine
	quick := casCall{client: c, ctx: ctx, id: groupID{key: key}, guards: guards, lease: leaseIn(ctx), f: f, patience: e.opts.SlowCallback}
	err := errUnfinished
	if e.local {
		err = e.casLocal(&quick)
	}
	callbacks := quick.callbacks
	if err != nil && unfinished(err) {
		call := quick // on the heap, for others to see
		call.id.guards = guardsID(guards) + string(call.lease)
		err = e.run(&call, err)
		callbacks = call.callbacks
	}
	e.opts.Observer.CAS(ctx, key, callbacks, err)
	if err != nil {
		return c.fail(op, key, err)
	}
	return nil
}

// casCall is one call of CAS or Delete.
type casCall struct {
	client *client
	ctx    context.Context
	id     groupID
	guards []Guard
	lease  driver.LeaseID // empty: none
	f      casFunc        // nil: a Delete

	// begun is when the call, or its latest try after a refusal, began: a
	// decision not to write must rest on a value current after that.
	begun time.Time

	callbacks int // how often f ran
	refusals  int // how often f asked for a retry

	patience      time.Duration // how long the callback may hold others up
	conflictSince time.Time     // the first conflict; zero: none yet
	working       time.Duration // time in callbacks since then that held nobody up
	failingSince  time.Time     // the first of the latest failures in a row
	failure       error         // the latest, while the call waits for another try

	*membership // while the call is in a group
}

// unfinished reports whether a call that ended a try with err goes on.
func unfinished(err error) bool {
	return err == errUnfinished || errors.As(err, new(errAgain)) //nolint:errorlint // errUnfinished is never wrapped
}

// run takes a call through as many tries as its callback asks for. err is how
// its first one ended, errUnfinished if there was none.
func (e *engine) run(c *casCall, err error) error {
	var pause *wait.Backoff
	for {
		if err == errUnfinished { //nolint:errorlint // never wrapped
			c.begun = e.tick()
			err = e.share(c)
		}
		var asked errAgain
		if !errors.As(err, &asked) {
			return err
		}
		c.refusals++
		if c.refusals >= e.opts.MaxAttempts {
			return fmt.Errorf("given up after %d attempts: %w", c.refusals, asked.error)
		}
		if pause == nil {
			pause = e.pauses()
		}
		if !pause.Sleep(c.ctx, e.ctx, nil) {
			return e.ended(c.ctx, asked.error)
		}
		// The next try begins now: a refusal of a remembered value doesn't
		// count without a look at the store, so the callback gets to see what
		// it may be waiting for.
		err = errUnfinished
	}
}

// share has c lead a group or take part in one, or in one after another while
// its callback holds up the others.
func (e *engine) share(c *casCall) error {
	for {
		g, leads := e.groups.join(e, c)
		err := errUnfinished
		if leads {
			err = g.lead(c)
		}
		if err == errUnfinished { //nolint:errorlint // never wrapped, on the hot path
			err = g.await(c)
		}
		switch {
		case err != errEvicted: //nolint:errorlint // as above
			return err
		case e.overdue(c):
			return ErrConflict
		}
	}
}

func (c *casCall) swap(prev *driver.Entry, s state) driver.Swap {
	sw := driver.Swap{Prev: *prev, Key: c.id.key, Remove: !s.exists, Guards: c.guards, Lease: c.lease, ID: swapID()}
	if s.exists {
		sw.Value, sw.Object = s.value.bytes, s.value.object
	}
	return sw
}

// conflicted notes that somebody else wrote what c had looked at.
func (c *casCall) conflicted() {
	if c.conflictSince.IsZero() {
		c.conflictSince = time.Now()
	}
	c.failingSince = time.Time{}
}

// clock returns the time if time counts for c, that is, after a conflict.
func (c *casCall) clock() (now time.Time) {
	if !c.conflictSince.IsZero() {
		now = time.Now()
	}
	return now
}

// worked leaves the time of a callback, since clock gave began, out of
// ContentionTimeout.
func (c *casCall) worked(began time.Time) {
	if !began.IsZero() {
		c.working += time.Since(began)
	}
}

// maxPatience is in multiples of Options.SlowCallback.
const maxPatience = 100

// evicted notes that the callback held others up and was overtaken. Its time
// counts as contention: a callback that changes its own key would otherwise
// go on for ever.
func (c *casCall) evicted() {
	c.conflicted()
	c.patience = min(2*c.patience, maxPatience*c.client.engine.opts.SlowCallback)
}

// overdue reports whether c has been in conflict for too long (C5).
func (e *engine) overdue(c *casCall) bool {
	return !c.conflictSince.IsZero() && time.Since(c.conflictSince)-c.working >= e.opts.ContentionTimeout
}

// unavailable reports whether c has failed to reach the store for too long.
func (e *engine) unavailable(c *casCall) bool {
	if c.failingSince.IsZero() {
		c.failingSince = time.Now()
	}
	return time.Since(c.failingSince) >= e.opts.RetryTimeout
}

// base returns what to run callbacks on: what is remembered of the key, or
// else a linearizable read, which begins no earlier than now.
func (e *engine) base(ctx context.Context, key string, guards []Guard, now time.Time) (cached, error) {
	if seen, ok := e.recall(key); ok {
		return seen, nil
	}
	return e.look(ctx, key, guards, now)
}

// confirm reports whether a decision not to write, made on base, counts for
// calls that began at or before since (C2): base was read after that, or
// the key still is at the same version.
func (e *engine) confirm(ctx context.Context, key string, guards []Guard, base *cached, since time.Time) (bool, error) {
	if !base.asOf.Before(since) && (len(guards) == 0 || base.guarded) {
		return true, nil
	}
	now, err := e.look(ctx, key, guards, since)
	return err == nil && now.entry.Version == base.entry.Version && now.entry.Generation == base.entry.Generation, err
}
