package inmemory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/polykv/polykv/kv/driver"
)

var (
	errNoKey        = errors.New("empty key")
	errRemoveAbsent = errors.New("removal of a key that is expected to be absent")
)

// handle is one client's view of a Store.
type handle struct {
	store  *Store
	closed atomic.Bool
	done   chan struct{} // closed by Close
	close  func()        // runs once
}

var (
	_ driver.Store       = (*handle)(nil)
	_ driver.NonBlocking = (*handle)(nil)
)

// Open returns a new handle on s for one client. Closing the handle ends its
// watches with driver.ErrClosed, as does every later call, and touches neither
// the data nor other handles.
//
// A value that is over the limit, or a key of more than 512 bytes, is refused
// with driver.ErrTooLarge. Get never waits; Scan and Swap wait for no more than
// the writes under way, with what the watches of their keys do when told.
// Watch calls emit from the goroutines of writers, which it holds up: emit must
// not use the store.
func (s *Store) Open() driver.Store {
	return s.open(func() {})
}

// open returns a handle that calls release when it is closed.
func (s *Store) open(release func()) *handle {
	h := &handle{store: s, done: make(chan struct{})}
	h.close = sync.OnceFunc(func() {
		h.closed.Store(true)
		close(h.done)
		release()
	})
	return h
}

// check returns why a call must not go on, if so.
func (h *handle) check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.closed.Load() {
		return driver.ErrClosed
	}
	return nil
}

func (h *handle) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if err := h.check(ctx); err != nil {
		return driver.Entry{}, err
	}
	if len(req.Guards) == 0 {
		return h.store.read(req.Key).entry(req.Key), nil
	}
	rec, ok := h.store.readGuarded(req.Key, req.Guards)
	if !ok {
		return driver.Entry{}, driver.ErrFenced
	}
	return rec.entry(req.Key), nil
}

func (h *handle) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	if err := h.check(ctx); err != nil {
		return driver.Page{}, err
	}
	if req.Bare && req.After == "" { // all at once
		return driver.Page{Keys: h.store.keys(req.Prefix)}, nil
	}
	if req.Snapshot == nil {
		return h.store.snapshot().page(&req), nil
	}
	snap, ok := req.Snapshot.(*snapshot)
	if !ok || snap.store != h.store {
		return driver.Page{}, fmt.Errorf("not a snapshot of this store: %w", driver.ErrSnapshotLost)
	}
	return snap.page(&req), nil
}

func (h *handle) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	err := h.check(ctx)
	if err == nil {
		err = h.store.cfg.checkSwap(&s)
	}
	if err != nil {
		return driver.Result{Outcome: driver.NotApplied}, err
	}
	return h.store.swap(&s)
}

// checkSwap refuses what the store can't or must not write.
func (c Config) checkSwap(s *driver.Swap) error {
	switch {
	case s.Key == "":
		return driver.Permanent(errNoKey)
	case len(s.Key) > maxKeySize:
		return fmt.Errorf("key of %d bytes, the limit is %d: %w", len(s.Key), maxKeySize, driver.ErrTooLarge)
	case s.Remove && s.Prev.Version == 0:
		return driver.Permanent(errRemoveAbsent)
	case !s.Remove && c.MaxValueSize >= 0 && len(s.Value) > c.MaxValueSize:
		return fmt.Errorf("value of %d bytes, the limit is %d: %w", len(s.Value), c.MaxValueSize, driver.ErrTooLarge)
	}
	return nil
}

func (h *handle) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	return h.store.feed.Watch(ctx, h.done, req.Range, emit, h.store.subscriber(req.Range))
}

func (h *handle) Limits() driver.Limits { return h.store.cfg.limits() }

func (h *handle) Close() error {
	h.close()
	return nil
}

// NonBlocking reports that calls are answered from memory.
func (h *handle) NonBlocking() bool { return true }
