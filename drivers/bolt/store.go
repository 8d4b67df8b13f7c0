package bolt

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"

	"github.com/polykv/polykv/kv/driver"
)

// handle is one client's view of a file.
type handle struct {
	file    *file
	release func() error
	commits sync.WaitGroup // writes under way, also those that Swap no longer waits for
	closed  atomic.Bool
}

var (
	_ driver.Store    = (*handle)(nil)
	_ driver.Resolver = (*handle)(nil)
)

// check returns why a call must not go on, if so.
func (h *handle) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.closed.Load() {
		return driver.ErrClosed
	}
	return h.file.broken()
}

// Get implements driver.Store. A transaction sees every commit before it.
func (h *handle) Get(ctx context.Context, req driver.GetRequest) (e driver.Entry, err error) {
	if err := h.check(ctx); err != nil {
		return driver.Entry{}, err
	}
	err = h.file.bolt.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if !hold(b, req.Guards) {
			return driver.ErrFenced
		}
		e = read(b, req.Key)
		return nil
	})
	return e, err
}

// Scan implements driver.Store. All of a listing of keys is one page, and so
// one moment. Pages with values are a moment each: there is nothing that would
// end a transaction that stays open from page to page.
func (h *handle) Scan(ctx context.Context, req driver.ScanRequest) (p driver.Page, err error) {
	if err := h.check(ctx); err != nil {
		return driver.Page{}, err
	}
	err = h.file.bolt.View(func(tx *bbolt.Tx) error {
		r := driver.Range{Key: req.Prefix, IsPrefix: true}
		return each(ctx, tx, r, req.After, func(key string, stored []byte) bool {
			switch {
			case req.KeysOnly:
				p.Entries = append(p.Entries, driver.Entry{Key: key, Version: version(stored)})
			case req.Limit > 0 && len(p.Entries) == req.Limit:
				p.More = true
				return false
			default:
				p.Entries = append(p.Entries, decode(key, stored))
			}
			return true
		})
	})
	return p, err
}

// Swap implements driver.Store. If ctx ends during the commit, its outcome is unknown.
func (h *handle) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if l := h.Limits(); len(s.Key) > l.Key || len(s.Value) > l.Value {
		err := fmt.Errorf("key of %d and value of %d bytes, the limits are %d and %d: %w", len(s.Key), len(s.Value), l.Key, l.Value, driver.ErrTooLarge)
		return driver.Result{Outcome: driver.NotApplied}, err
	}
	began, r, err := write(ctx, h, func() (driver.Result, error) { return h.file.swap(s) })
	if !began {
		r.Outcome = driver.NotApplied
	}
	return r, err
}

// write returns what do does as the only writer. A commit can't be interrupted, so it
// has a goroutine of its own, which goes on when ctx ends.
func write[R any](ctx context.Context, h *handle, do func() (R, error)) (began bool, r R, err error) {
	if err := h.turn(ctx); err != nil {
		return false, r, err
	}
	type answer struct {
		result R
		err    error
	}
	done := make(chan answer, 1)
	h.commits.Go(func() {
		defer func() { <-h.file.writer }()
		r, err := do()
		done <- answer{r, err}
	})
	select {
	case a := <-done:
		return true, a.result, a.err
	case <-ctx.Done():
		return true, r, ctx.Err()
	}
}

// turn waits until the caller is the only writer.
func (h *handle) turn(ctx context.Context) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	select {
	case h.file.writer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Resolve implements driver.Resolver. The file keeps the id of the write that
// made an entry, so an entry tells if that was s; if another wrote since, or
// the key is absent, nothing tells.
func (h *handle) Resolve(s driver.Swap, now driver.Entry) driver.Outcome {
	if id, ok := now.Meta.(uint64); ok && id == s.ID {
		return driver.Applied
	}
	return driver.Unknown
}

// maxGuards is how many guards a write or read may carry. A transaction takes
// any number.
const maxGuards = 100

// Limits implements driver.Store. They are the same with and without a guard.
func (h *handle) Limits() driver.Limits {
	value := h.file.cfg.MaxValueSize
	return driver.Limits{Key: bbolt.MaxKeySize, Value: value, GuardedValue: value, Guards: maxGuards}
}

// Close implements driver.Store. It waits for commits that Swap gave up on.
func (h *handle) Close() error {
	if h.closed.Swap(true) {
		return nil
	}
	h.commits.Wait()
	return h.release()
}
