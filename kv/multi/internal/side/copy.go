package side

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/polykv/polykv/kv"
)

const (
	defaultWorkers = 64
	maxFailures    = 100 // that are remembered by key
)

// CopyOptions says how to copy. The zero value copies everything, unguarded,
// and deletes nothing.
type CopyOptions struct {
	Prefix string // only keys that begin with it

	// Guards and Equal are as in Task.
	Guards []kv.Guard
	Equal  func(a, b []byte) bool

	// DeleteExtra deletes keys that the first store doesn't have. Otherwise
	// they are counted as kept.
	DeleteExtra bool

	// Attempts, unless 0, are as for Compare: what is being mirrored is left alone.
	Attempts int

	// Verify reads every key that was to be copied again on both sides, after
	// it was. One that differs then counts as failed, with ErrDiffers: somebody
	// else writes it. With nobody else writing to either side, a Copy without
	// an error has thus seen every key equal.
	Verify bool

	// DryRun counts what would be done and writes nothing.
	DryRun bool

	// Workers is how many keys are copied at the same time. Default 64.
	Workers int

	// Progress is called now and then, and at the end, one call at a time.
	Progress func(Totals)

	// Wrote is called with each key that was written or deleted, one call at a
	// time.
	Wrote func(key string)
}

// ErrDiffers is matched by the Failure of a key that differed right after it was
// copied.
var ErrDiffers = errors.New("differs right after it was copied")

// Failure is a key that could not be copied.
type Failure struct {
	Key string
	Err error
}

// FailedError is the error of a Copy that went through all keys but could not
// copy some.
type FailedError struct {
	Count    int
	Failures []Failure // the first hundred
}

// Error names the number and the first key.
func (e *FailedError) Error() string {
	return fmt.Sprintf("%d keys could not be copied, %q among them: %v", e.Count, e.Failures[0].Key, e.Failures[0].Err)
}

// Unwrap returns the reasons.
func (e *FailedError) Unwrap() []error {
	errs := make([]error, len(e.Failures))
	for i, f := range e.Failures {
		errs[i] = f.Err
	}
	return errs
}

// Copy makes the keys of to equal to those of from, by a [Task] for each that
// differs: a backfill into an empty store, a repair of one that isn't. It may
// be interrupted and run again, which copies only what is still to be copied,
// and any number of copies may run at once, beside mirroring.
//
// A key that can't be copied (its value is too large for the other store,
// say) is counted and the rest is copied; the error is then a [*FailedError].
// A broken guard, a store out of reach or the end of ctx end the whole copy.
func Copy(ctx context.Context, from, to *Side, o CopyOptions) (Totals, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &copier{opts: o, stop: cancel, task: Task{From: from, To: to, Guards: o.Guards, Equal: o.Equal}}
	if c.opts.Workers <= 0 {
		c.opts.Workers = defaultWorkers
	}
	keys := make(chan string)
	var workers sync.WaitGroup
	for range c.opts.Workers {
		workers.Go(func() {
			for key := range keys {
				c.copy(ctx, key)
			}
		})
	}
	err := c.find(ctx, keys)
	close(keys)
	workers.Wait()
	return c.finish(ctx, err)
}

// copier is one run of Copy.
type copier struct {
	opts CopyOptions
	task Task
	stop context.CancelCauseFunc

	mu       sync.Mutex
	totals   Totals
	failures []Failure
}

// find hands the keys that differ to the workers.
func (c *copier) find(ctx context.Context, keys chan<- string) error {
	o := CompareOptions{Prefix: c.opts.Prefix, Attempts: cmp.Or(c.opts.Attempts, atOnce), Progress: c.seen}
	_, err := compare(ctx, c.task, o, func(p pair) error {
		if !c.wants(p.err != nil || p.a.exists) {
			return nil
		}
		select {
		case keys <- p.key:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return err
}

func (c *copier) seen(t Totals) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.totals.Keys, c.totals.Bytes, c.totals.Moving = t.Keys, t.Bytes, t.Moving
	if c.opts.Progress != nil {
		c.opts.Progress(c.totals)
	}
}

// wants counts a key that differs, and reports whether it is to be copied.
func (c *copier) wants(exists bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !exists && !c.opts.DeleteExtra {
		c.totals.Kept++
		return false
	}
	c.totals.Different++
	if c.opts.DryRun {
		c.done(exists)
	}
	return !c.opts.DryRun
}

// done counts a key that was written, or would be.
func (c *copier) done(exists bool) {
	if exists {
		c.totals.Copied++
	} else {
		c.totals.Deleted++
	}
}

func (c *copier) copy(ctx context.Context, key string) {
	if ctx.Err() != nil {
		return
	}
	did, err := c.task.copy(ctx, key, nil)
	if err == nil && c.opts.Verify {
		err = c.verify(ctx, key)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil && (ctx.Err() != nil || stops(err)):
		c.stop(err)
	case err != nil:
		c.totals.Failed++
		if len(c.failures) < maxFailures {
			c.failures = append(c.failures, Failure{key, err})
		}
	case did != kv.Keep:
		c.done(did == kv.Put)
		if c.opts.Wrote != nil {
			c.opts.Wrote(key)
		}
	}
}

func (c *copier) verify(ctx context.Context, key string) error {
	a, b, err := c.task.read(ctx, key)
	if err == nil && !c.task.equal(a, b) {
		err = fmt.Errorf("%q %w", key, ErrDiffers)
	}
	return err
}

func (c *copier) finish(ctx context.Context, err error) (Totals, error) {
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what a worker met, rather than that the others were told to stop
	}
	if err == nil && c.totals.Failed > 0 {
		err = &FailedError{Count: c.totals.Failed, Failures: c.failures}
	}
	c.seen(c.totals)
	return c.totals, err
}
