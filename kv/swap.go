package kv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// SwapVersion implements VersionedClient.
func (c *client) SwapVersion(ctx context.Context, key string, prev Version, value any, guards ...Guard) (Version, error) {
	version, err := c.swapVersion(ctx, key, prev, value, slices.Clone(guards))
	if err != nil {
		return 0, c.fail("SwapVersion", key, err)
	}
	return version, nil
}

func (c *client) swapVersion(ctx context.Context, key string, prev Version, value any, guards []Guard) (Version, error) {
	if err := c.admit(ctx, key, guards); err != nil {
		return 0, err
	}
	s := driver.Swap{Key: key, Prev: driver.Entry{Key: key, Version: prev}, Guards: guards, ID: swapID()}
	if seen, ok := c.engine.recall(key); ok && seen.entry.Version == prev {
		s.Prev = seen.entry // with what the driver may need to resolve it
	}
	if c.values != nil { // whose objects are made from what they replace
		var seen cached
		err := c.engine.retry(ctx, func(time.Duration) (err error) {
			seen, err = c.engine.look(ctx, key, guards, time.Now())
			return err
		})
		if err != nil {
			return 0, err
		}
		if seen.entry.Version != prev {
			return 0, notAt(prev)
		}
		s.Prev = seen.entry
	}
	switch {
	case value != Remove:
		sealed, err := c.seal(key, storedIn(s.Prev), value, len(guards) > 0)
		if err != nil {
			return 0, err
		}
		s.Value, s.Object = sealed.bytes, sealed.object
	case prev == 0:
		return 0, fmt.Errorf("removing %q at version 0: %w: a removal needs the version of what it removes", key, ErrConflict)
	default:
		s.Remove = true
	}
	var result driver.Result
	err := c.engine.retry(ctx, func(time.Duration) (err error) {
		result, err = c.engine.settle(ctx, &s, 1) // an error that isn't final proves "not applied"
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case result.Outcome == driver.Conflict:
		return 0, notAt(prev)
	case !result.Known && !s.Remove:
		return c.engine.versionOf(ctx, &s)
	}
	return result.Entry.Version, nil
}

func notAt(prev Version) error {
	return fmt.Errorf("%w: the key is not at version %d", ErrConflict, prev)
}

// versionOf finds the version that s, which was applied, gave its key, for
// stores whose answer doesn't tell it. That the key is still as s left it, only
// a resolver can say.
func (e *engine) versionOf(ctx context.Context, s *driver.Swap) (Version, error) {
	var seen cached
	err := e.retry(ctx, func(time.Duration) (err error) {
		seen, err = e.look(ctx, s.Key, nil, time.Now())
		return err
	})
	switch {
	case err != nil:
	case e.resolver == nil:
		err = errors.New("this store can't tell whose write it holds")
	case e.resolver.Resolve(*s, seen.entry) != driver.Applied:
		err = errors.New("the key was written again at once")
	}
	if err != nil {
		return 0, because(ErrIndeterminate, fmt.Errorf("the write was applied, but its version can't be learned: %w", err))
	}
	return seen.entry.Version, nil
}

// swapID names a write.
func swapID() uint64 {
	for {
		if id := rand.Uint64(); id != 0 {
			return id
		}
	}
}

// indeterminate is a swap whose outcome could not be learned. It is final.
type indeterminate struct {
	cause error
	now   *driver.Entry // what a linearizable read found last, if one succeeded
}

func (i *indeterminate) Error() string {
	return because(ErrIndeterminate, i.cause).Error()
}

func (i *indeterminate) Unwrap() []error { return []error{ErrIndeterminate, i.cause} }

// settle makes one swap and, should its outcome be unknown, finds out what
// became of it. It returns Applied or Conflict with a nil error, or
// an error: ErrFenced, one that proves that nothing was written, or an
// *indeterminate. The memory is brought up to date.
func (e *engine) settle(ctx context.Context, s *driver.Swap, callers int) (driver.Result, error) {
	asOf, epoch := e.now(), e.epoch()
	result, err := e.swapOnce(ctx, s, callers)
	if result.Outcome == driver.Unknown {
		e.forget(s.Key)
		asOf, epoch = e.now(), e.epoch()
		result, err = e.resolve(ctx, s, callers, err)
	}
	switch result.Outcome {
	case driver.Applied:
		if result.Known {
			entry := &result.Entry
			entry.Key, entry.Value = s.Key, s.Value
			e.sawGeneration(entry.Generation)
			e.remember(entry, asOf, epoch)
		} else {
			e.forget(s.Key)
		}
		return result, nil
	case driver.Conflict:
		e.forget(s.Key)
		if result.Known {
			e.sawGeneration(result.Entry.Generation)
			e.remember(&result.Entry, asOf, epoch)
		}
		return result, nil
	case driver.GuardBroken:
		return result, ErrFenced
	default:
		return result, err
	}
}

// swapOnce makes one attempt. Its error says why the outcome is Unknown or
// NotApplied, and nothing of another.
func (e *engine) swapOnce(ctx context.Context, s *driver.Swap, callers int) (driver.Result, error) {
	result := driver.Result{Outcome: driver.NotApplied} // for the attempt that Close forbids
	err := e.attempt(ctx, "swap", KeyRange(s.Key), e.opts.AttemptTimeout, func(ctx context.Context) (err error) {
		result, err = e.store.Swap(ctx, *s)
		e.opts.Observer.Swap(ctx, s.Key, result.Outcome.String(), callers)
		return err
	})
	if err == nil && (result.Outcome == driver.Unknown || result.Outcome == driver.NotApplied) {
		err = errors.New("the driver gave no reason")
	}
	return result, err
}

// resolve finds out what became of a swap that was Unknown for the reason
// cause.
//
// With Prev.Version > 0 the very same swap can be repeated: versions never
// return, so it is applied at most once however often it is sent. A conflict
// is then no answer yet, since an earlier attempt may have caused it: a
// linearizable read decides. With Prev.Version 0 a repeat could create the key
// again after another deleted it, so only reading is left. After a broken
// guard nothing can land any more, which makes that read final.
func (e *engine) resolve(ctx context.Context, s *driver.Swap, callers int, cause error) (driver.Result, error) {
	deadline := time.Now().Add(e.opts.RetryTimeout)
	pause := e.pauses()
	fenced := false
	giveUp := func(now *driver.Entry) (driver.Result, error) {
		return driver.Result{}, &indeterminate{cause, now}
	}
	for {
		if ctx.Err() != nil || e.ctx.Err() != nil {
			cause = e.ended(ctx, cause)
			return giveUp(nil)
		}
		answered := s.Prev.Version == 0 || fenced
		if !answered {
			result, err := e.swapOnce(ctx, s, callers)
			switch result.Outcome {
			case driver.Applied:
				return result, nil
			case driver.GuardBroken:
				fenced, answered = true, true
			case driver.Conflict:
				answered = true
			default:
				cause = err
				answered = driver.IsPermanent(err) // the repeat is refused; a read may still tell
			}
		}
		if answered {
			seen, err := e.look(ctx, s.Key, nil, time.Now())
			now := seen.entry
			if err != nil {
				cause = because(cause, flat(err))
				if driver.IsPermanent(err) {
					return giveUp(nil) // neither repeating nor reading will ever tell
				}
			} else if verdict, done := e.judge(s, now, fenced); done {
				if verdict == driver.Unknown {
					return giveUp(&now)
				}
				return driver.Result{Outcome: verdict, Entry: now, Known: true}, nil
			}
		}
		if !pause.Fits(deadline) {
			return giveUp(nil)
		}
		pause.Sleep(ctx, e.ctx, nil)
	}
}

// judge says what a linearizable read tells about a swap of unknown outcome.
// done is false if the same swap must be repeated first.
func (e *engine) judge(s *driver.Swap, now driver.Entry, fenced bool) (verdict driver.Outcome, done bool) {
	if s.Prev.Generation != 0 && now.Generation != s.Prev.Generation {
		return driver.Unknown, true // versions of another history prove nothing
	}
	if now.Version == s.Prev.Version && s.Prev.Version != 0 {
		// Not applied so far, but a late attempt may still land, unless the
		// guard forbids it.
		return driver.GuardBroken, fenced
	}
	if e.resolver == nil {
		return driver.Unknown, true
	}
	verdict = e.resolver.Resolve(*s, now)
	switch {
	case verdict == driver.Applied:
		return driver.Applied, true
	case verdict == driver.NotApplied && s.Prev.Version != 0:
		if fenced {
			return driver.GuardBroken, true
		}
		return driver.Conflict, true
	}
	return driver.Unknown, true
}

// look makes one linearizable read, which begins no earlier than now, and
// remembers what it found.
func (e *engine) look(ctx context.Context, key string, guards []Guard, now time.Time) (cached, error) {
	seen := cached{asOf: now, epoch: e.epoch(), guarded: len(guards) > 0}
	err := e.attempt(ctx, "get", KeyRange(key), e.opts.AttemptTimeout, func(ctx context.Context) (err error) {
		seen.entry, err = e.store.Get(ctx, driver.GetRequest{Key: key, Guards: guards})
		return err
	})
	if err == nil {
		seen.entry.Key = key
		e.sawGeneration(seen.entry.Generation)
		e.remember(&seen.entry, now, seen.epoch)
	}
	return seen, err
}
