package memberlist

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// handle is one client's view of the node's state. It never waits: every call
// is answered by the node's own copy.
type handle struct {
	store    *state.Store
	view     *state.View
	maxValue int
	closed   atomic.Bool
	done     chan struct{} // closed by Close
	close    func()        // runs once
}

var _ interface {
	driver.Store
	driver.NonBlocking
	driver.ValueStore
	driver.Recoder
} = (*handle)(nil)

func newHandle(s *state.Store, v *state.View, maxValue int, release func()) *handle {
	h := &handle{store: s, view: v, maxValue: maxValue, done: make(chan struct{})}
	h.close = sync.OnceFunc(func() {
		h.closed.Store(true)
		close(h.done)
		release()
	})
	return h
}

// check returns why a call must not go on, if so.
func (h *handle) check(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case h.closed.Load():
		return driver.ErrClosed
	}
	return nil
}

func (h *handle) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if err := h.check(ctx); err != nil {
		return driver.Entry{}, err
	}
	if r := h.store.Get(req.Key); r != nil {
		return r.Entry(), nil
	}
	return driver.Entry{Key: req.Key}, nil
}

// maxPage bounds the entries of a page.
const maxPage = 4096

func (h *handle) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	if err := h.check(ctx); err != nil {
		return driver.Page{}, err
	}
	snap, ok := req.Snapshot.(state.Snapshot)
	if !ok {
		snap = h.store.Snapshot()
	}
	limit := maxPage
	if req.Limit > 0 {
		limit = min(limit, req.Limit)
	}
	p := driver.Page{Snapshot: snap}
	snap.From(req.Prefix, req.After, func(r *state.Record) bool {
		if len(p.Entries)+len(p.Keys) == limit {
			p.More = true
			return false
		}
		if req.Bare {
			p.Keys = append(p.Keys, r.Key())
			return true
		}
		e := r.Entry()
		if req.KeysOnly {
			e.Object = nil
		}
		p.Entries = append(p.Entries, e)
		return true
	})
	return p, nil
}

func (h *handle) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	err := h.check(ctx)
	if err == nil && len(s.Key) > kv.MaxKeyLen {
		err = fmt.Errorf("key of %d bytes, the limit is %d: %w", len(s.Key), kv.MaxKeyLen, driver.ErrTooLarge)
	}
	if err != nil {
		return driver.Result{Outcome: driver.NotApplied}, err
	}
	now, ok, err := h.store.Swap(s.Key, s.Prev.Version, s.Object)
	switch {
	case err != nil:
		return driver.Result{Outcome: driver.NotApplied}, err
	case !ok:
		return driver.Result{Outcome: driver.Conflict, Entry: now, Known: true}, nil
	}
	return driver.Result{Outcome: driver.Applied, Entry: now, Known: true}, nil
}

func (h *handle) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	return h.store.Watch(ctx, h.done, req.Range, emit)
}

func (h *handle) Limits() driver.Limits {
	// No guards: one would hold on this node only.
	return driver.Limits{Key: kv.MaxKeyLen, Value: h.maxValue, GuardedValue: h.maxValue}
}

func (h *handle) Close() error {
	h.close()
	return nil
}

// NonBlocking implements driver.NonBlocking.
func (h *handle) NonBlocking() bool { return true }

// Values implements driver.ValueStore.
func (h *handle) Values() driver.Values { return h.view }

// ValuesOf implements driver.Recoder: the node must have been started with the
// codec.
func (h *handle) ValuesOf(c driver.Codec) (driver.Values, error) {
	v, err := h.store.View(c)
	if err != nil {
		return nil, err
	}
	return v, nil
}
