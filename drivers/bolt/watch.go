package bolt

import (
	"context"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/polykv/polykv/kv/driver"
)

// watch is one watch session's queue of what was committed since it began. The
// session drains it at once, as emit doesn't block, so it stays short.
type watch struct {
	rng  driver.Range
	more chan struct{} // of capacity 1: there may be something in the queue

	mu    sync.Mutex
	queue []change
}

// change is an event with the index of its write.
type change struct {
	index uint64
	event driver.Event
}

// Watch implements driver.Store.
//
// The queue is there before the snapshot is taken, so no commit is in neither.
// A commit that is in both has an index that the snapshot includes.
func (h *handle) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	w := h.file.subscribe(req.Range)
	defer h.file.unsubscribe(w)
	var included uint64
	err := h.file.bolt.View(func(tx *bbolt.Tx) error {
		included = tx.Bucket(bucket).Sequence()
		return each(ctx, tx, req.Range, "", func(key string, stored []byte) bool {
			emit(driver.Event{Type: driver.Put, Entry: decode(key, stored)})
			return true
		})
	})
	if err != nil {
		return err
	}
	emit(driver.Event{Type: driver.Synced})
	for {
		for _, c := range w.take() {
			if c.index > included {
				emit(c.event)
			}
		}
		select {
		case <-w.more:
		case <-ctx.Done():
			return ctx.Err()
		case <-h.file.failed:
			return h.file.failure
		}
	}
}

func (f *file) subscribe(r driver.Range) *watch {
	w := &watch{rng: r, more: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watches[w] = struct{}{}
	return w
}

func (f *file) unsubscribe(w *watch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.watches, w)
}

// publish hands the new state of a key to the watches of it. It is called
// after each commit, in their order.
func (f *file) publish(index uint64, e driver.Entry) {
	c := change{index, driver.Event{Type: driver.Put, Entry: e}}
	if !e.Exists() {
		c.event.Type = driver.Delete
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watches {
		if w.rng.Contains(e.Key) {
			w.add(c)
		}
	}
}

func (w *watch) add(c change) {
	w.mu.Lock()
	w.queue = append(w.queue, c)
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default: // it is signalled already
	}
}

// take empties the queue.
func (w *watch) take() []change {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue := w.queue
	w.queue = nil
	return queue
}
