package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
)

// ctxError is the error of a call whose ctx is done: ctx's own error, its
// cause if somebody gave one, and what the store said last, all matchable.
func ctxError(ctx context.Context, last error) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = because(err, cause)
	}
	switch {
	case last == nil:
		return err
	case errors.Is(last, ctx.Err()) && errors.Is(last, context.Cause(ctx)):
		return last
	}
	return fmt.Errorf("%w: %w", err, last)
}

// attempt makes one request to the store, within limit. Its error is
// ErrClosed if the client closed meanwhile, ctx's error if ctx ended, else
// the store's; a request that took too long never matches ctx's errors.
func (e *engine) attempt(ctx context.Context, op string, of Range, limit time.Duration, do func(ctx context.Context) error) error {
	if e.local {
		return e.attemptLocal(ctx, op, of, do)
	}
	if !e.gate.enter() {
		return ErrClosed
	}
	defer e.gate.leave()
	ctx, ended := e.start(ctx, op, of)
	r := e.requests.begin(ctx, limit)
	defer e.requests.end(r)

	start := time.Now()
	err := do(r)
	switch {
	case err == nil:
	case e.ctx.Err() != nil: // first, since ctx may be the engine's own
		err = because(ErrClosed, flat(err))
	case ctx.Err() != nil:
		err = ctxError(ctx, err)
	case r.Err() != nil:
		err = fmt.Errorf("no answer within %v: %w", limit, flat(err))
	}
	e.opts.Observer.Request(ctx, of.Key, op, time.Since(start), err)
	ended(err)
	return err
}

// direct reports whether a request needs neither a limit of its time nor to be
// told of: the store never waits and nobody observes.
func (e *engine) direct() bool {
	_, unobserved := e.opts.Observer.(NopObserver)
	return e.local && unobserved
}

// attemptLocal is attempt without timers, for a store that never waits.
func (e *engine) attemptLocal(ctx context.Context, op string, of Range, do func(ctx context.Context) error) error {
	if e.ctx.Err() != nil {
		return ErrClosed
	}
	if e.direct() {
		return do(ctx)
	}
	ctx, ended := e.start(ctx, op, of)
	start := time.Now()
	err := do(ctx)
	e.opts.Observer.Request(ctx, of.Key, op, time.Since(start), err)
	ended(err)
	return err
}

// flat keeps the text of an error that came of our own deadline or cancel,
// so that no caller takes it for the end of its own ctx.
func flat(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return errors.New(err.Error())
	}
	return err
}

// read makes one request again and again, see retry.
func (e *engine) read(ctx context.Context, op string, of Range, do func(ctx context.Context) error) error {
	return e.retry(ctx, func(limit time.Duration) error { return e.attempt(ctx, op, of, limit, do) })
}

// retry calls once until it succeeds, ctx ends, the client closes, the error
// is final, or RetryTimeout has passed (A1). once gets the limit of its time.
func (e *engine) retry(ctx context.Context, once func(limit time.Duration) error) error {
	var pause *wait.Backoff // made late: most requests succeed at once
	var deadline time.Time
	limit := e.opts.AttemptTimeout
	for {
		err := once(limit)
		if err == nil {
			return nil
		}
		if final, err := e.final(ctx, err); final {
			return err
		}
		if pause == nil {
			pause = e.pauses()
			deadline = time.Now().Add(e.opts.RetryTimeout)
		}
		if !pause.Fits(deadline) {
			return because(ErrUnavailable, err)
		}
		if !pause.Sleep(ctx, e.ctx, nil) {
			return e.ended(ctx, err)
		}
		limit = min(limit, max(time.Until(deadline), e.opts.MinBackoff))
	}
}

// ended is the error of a call whose ctx is done or whose client is closed.
func (e *engine) ended(ctx context.Context, last error) error {
	if e.ctx.Err() != nil { // first, since ctx may be the engine's own
		return because(ErrClosed, last)
	}
	return ctxError(ctx, last)
}

// final reports whether trying again after err makes no sense or is not
// allowed, and what to return then.
func (e *engine) final(ctx context.Context, err error) (bool, error) {
	switch {
	case driver.IsPermanent(err), errors.Is(err, ErrIndeterminate):
		return true, err
	case ctx.Err() != nil, e.ctx.Err() != nil:
		return true, e.ended(ctx, err)
	}
	return false, err
}

func (e *engine) pauses() *wait.Backoff { return wait.NewBackoff(e.opts.MinBackoff, e.opts.MaxBackoff) }
