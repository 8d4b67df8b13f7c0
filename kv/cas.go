package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

type casFunc = func(in any) (out any, retry bool, err error)

// CAS implements Client.
func (c *client) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	return c.cas(ctx, "CAS", key, nil, f)
}

// CASGuarded implements GuardedClient.
func (c *client) CASGuarded(ctx context.Context, key string, guard *Guard, f func(in any) (out any, retry bool, err error)) error {
	return c.cas(ctx, "CASGuarded", key, guard, f)
}

// Delete implements Client. It is a CAS that removes: conditional on what it
// removes, a deletion can be repeated after a lost answer without ever taking
// a key that was created since.
func (c *client) Delete(ctx context.Context, key string) error {
	return c.cas(ctx, "Delete", key, nil, nil)
}

// DeleteGuarded implements GuardedClient.
func (c *client) DeleteGuarded(ctx context.Context, key string, guard *Guard) error {
	return c.cas(ctx, "DeleteGuarded", key, guard, nil)
}

func (c *client) cas(ctx context.Context, op, key string, guard *Guard, f casFunc) error {
	if err := c.admit(ctx, key, guard); err != nil {
		return c.fail(op, key, err)
	}
	e := c.engine
	quick := casCall{client: c, ctx: ctx, id: cellID{key: key}, guard: guard, f: f, patience: e.opts.SlowCallback}
	err := errDemoted
	if e.local && guard == nil {
		err = e.dash(&quick)
	}
	callbacks := quick.callbacks
	if err != nil && unfinished(err) {
		call := quick // on the heap, for others to see
		if guard != nil {
			call.id.guard = *guard
		}
		err = e.run(&call, err)
		callbacks = call.callbacks
	}
	e.opts.Observer.CAS(callbacks, err)
	if err != nil {
		return c.fail(op, key, err)
	}
	return nil
}

// casCall is one call of CAS or Delete.
type casCall struct {
	client *client
	ctx    context.Context
	id     cellID
	guard  *Guard
	f      casFunc // nil: a Delete

	// begun is when the call, or its latest try after a refusal, began: a
	// decision not to write must rest on a value current after that.
	begun time.Time

	callbacks int // how often f ran
	refusals  int // how often f asked for a retry

	patience      time.Duration // how long the callback may hold others up
	conflictSince time.Time     // the first conflict; zero: none yet
	working       time.Duration // time in callbacks since then that held nobody up
	failingSince  time.Time     // the first of the latest failures in a row

	*membership // while the call is in a cell's queue or group
}

// decisionKind says what a callback decided.
type decisionKind uint8

const (
	keep   decisionKind = iota // write nothing
	write                      // write decision.value
	erase                      // delete the key
	refuse                     // fail with decision.err
	again                      // fail with decision.err, but try again first
)

// decision is what a callback made of a state.
type decision struct {
	kind  decisionKind
	value stored
	err   error
}

func (d decision) writes() bool { return d.kind == write || d.kind == erase }

// state is the value of a key that a callback sees.
type state struct {
	value  stored
	exists bool
}

func stateOf(entry driver.Entry) state { return state{storedIn(entry), entry.Exists()} }

// after is the state that d leaves behind.
func (s state) after(d decision) state {
	switch d.kind {
	case write:
		return state{d.value, true}
	case erase:
		return state{value: d.value}
	default:
		return s
	}
}

// decide runs the callback on s, on the caller's goroutine.
func (c *casCall) decide(s state) decision {
	c.callbacks++
	if c.f == nil {
		if s.exists {
			return c.erasure(s)
		}
		return decision{kind: keep}
	}
	var in any
	if s.exists {
		value, err := c.client.open(s.value, true)
		if err != nil {
			return decision{kind: refuse, err: err}
		}
		in = value
	}
	out, retry, err := c.f(in)
	switch {
	case err != nil && retry:
		return decision{kind: again, err: err}
	case err != nil:
		return decision{kind: refuse, err: err}
	case out == nil, out == Remove && !s.exists:
		return decision{kind: keep}
	case out == Remove:
		return c.erasure(s)
	}
	value, err := c.client.seal(c.id.key, s.value, out, c.guard != nil)
	if err != nil {
		return decision{kind: refuse, err: err}
	}
	return decision{kind: write, value: value}
}

// erasure is the decision to delete what s shows.
func (c *casCall) erasure(s state) decision {
	value, err := c.client.sealRemoval(c.id.key, s.value)
	if err != nil {
		return decision{kind: refuse, err: err}
	}
	return decision{kind: erase, value: value}
}

// errAgain ends one round of a call whose callback asked for a retry.
type errAgain struct{ error }

// result is how a call ends whose decision counts.
func (d decision) result() error {
	if d.kind == again {
		return errAgain{d.err}
	}
	return d.err
}

// unfinished reports whether a call that ended a try with err goes on.
func unfinished(err error) bool {
	return err == errDemoted || errors.As(err, new(errAgain)) //nolint:errorlint // errDemoted is never wrapped
}

// run takes a call through as many tries as its callback asks for. err is how
// its first one ended, errDemoted if there was none.
func (e *engine) run(c *casCall, err error) error {
	var pause *pauses
	for {
		if err == errDemoted { //nolint:errorlint // never wrapped
			c.begun = time.Now()
			err = e.try(c)
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
		if !pause.sleep(c.ctx, e.ctx) {
			return e.ended(c.ctx, asked.error)
		}
		// The next try begins now: a refusal of a remembered value doesn't
		// count without a look at the store, so the callback gets to see what
		// it may be waiting for.
		err = errDemoted
	}
}

// dashes is how often a call on a store inside the process is tried before
// it minds the others.
const dashes = 3

// dash runs c without a cell, on a store that never waits: there is no round
// trip that callers could share, and a read, a callback and a swap are over
// sooner than the book-keeping of a meeting. Who loses to others that often,
// or finds a cell in use, meets them there, and then new callers do too, so
// that nobody loses for ever. It returns errDemoted if c has to go on.
func (e *engine) dash(c *casCall) error {
	sh := e.cells.shard(c.id.key)
	for range dashes {
		if sh.used.Load() > 0 {
			break
		}
		base, err := e.look(c.ctx, c.id.key, nil, c.begun)
		if err != nil {
			return e.orDemote(c, err)
		}
		d := c.decide(stateOf(base.entry))
		if c.ctx.Err() != nil || e.ctx.Err() != nil {
			return e.ended(c.ctx, nil)
		}
		err = e.conclude(c, base, d)
		if err != errDemoted { //nolint:errorlint // never wrapped, on the hot path
			return err
		}
	}
	return errDemoted
}

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
	base, err := e.base(c.ctx, c.id.key, c.guard, c.begun)
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
	err = e.conclude(c, base, d)
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
func (e *engine) conclude(c *casCall, base recollection, d decision) error {
	if !d.writes() {
		same, err := e.confirm(c.ctx, c.id.key, c.guard, base, c.begun)
		switch {
		case err != nil:
			return e.orDemote(c, err)
		case !same:
			c.conflicted()
			return errDemoted
		}
		return d.result()
	}
	result, err := e.settle(c.ctx, c.swap(base.entry, state{}.after(d)), 1)
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

func (c *casCall) swap(prev driver.Entry, s state) driver.Swap {
	sw := driver.Swap{Prev: prev, Key: c.id.key, Remove: !s.exists, Guard: c.guard, ID: swapID()}
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
func (e *engine) base(ctx context.Context, key string, guard *Guard, now time.Time) (recollection, error) {
	if seen, ok := e.recall(key); ok {
		return seen, nil
	}
	return e.look(ctx, key, guard, now)
}

// confirm reports whether a decision not to write, made on base, counts for
// calls that began at or before since (C2): base was read after that, or
// the key still is at the same version.
func (e *engine) confirm(ctx context.Context, key string, guard *Guard, base recollection, since time.Time) (bool, error) {
	if !base.asOf.Before(since) && (guard == nil || base.guarded) {
		return true, nil
	}
	now, err := e.look(ctx, key, guard, since)
	return err == nil && now.entry.Version == base.entry.Version && now.entry.Generation == base.entry.Generation, err
}
