package inmemory

import (
	"context"
	"strings"
	"sync"

	"github.com/polykv/polykv/kv/driver"
)

const (
	// minPending is how many changes of a watch may wait before those that
	// newer ones of the same key replace are dropped.
	minPending = 1024

	// checkEvery is after how many events a watch looks whether it should end.
	checkEvery = 1024
)

// watch is one watch session: a queue between the writers and the goroutine
// that called Watch.
type watch struct {
	rng  driver.Range
	pos  int           // in its topic; the registry's
	wake chan struct{} // holds a token if pending became non-empty

	mu      sync.Mutex
	pending []driver.Entry // changes in the order of the store
	limit   int            // len(pending) at which it is conflated
}

// subscribe returns a watch of r and the snapshot that its changes follow.
func (s *Store) subscribe(r driver.Range) (*watch, *snapshot) {
	w := &watch{rng: r, wake: make(chan struct{}, 1), limit: minPending}
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.snapshotLocked()
	s.watches.add(w)
	return w, snap
}

// add queues a change. It never blocks: the only other user of mu is take.
func (w *watch) add(e driver.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) >= w.limit {
		w.conflate()
	}
	w.pending = append(w.pending, e)
	if len(w.pending) == 1 {
		w.wake <- struct{}{}
	}
}

// conflate keeps the newest change of each key. Doing it when the queue has
// doubled since makes it O(1) for a change, and bounds the queue by twice the
// number of distinct keys.
func (w *watch) conflate() {
	seen := make(map[string]struct{}, len(w.pending))
	keep := len(w.pending)
	for i := len(w.pending) - 1; i >= 0; i-- {
		e := w.pending[i]
		if _, newer := seen[e.Key]; !newer {
			seen[e.Key] = struct{}{}
			keep--
			w.pending[keep] = e
		}
	}
	n := copy(w.pending, w.pending[keep:])
	clear(w.pending[n:])
	w.pending = w.pending[:n]
	w.limit = max(minPending, 2*n)
}

// take returns the queue and leaves spare, emptied, in its place.
func (w *watch) take(spare []driver.Entry) []driver.Entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := w.pending
	w.pending = spare
	w.limit = minPending
	return batch
}

// run emits the snapshot and then the changes until ctx or done ends.
func (w *watch) run(ctx context.Context, done <-chan struct{}, snap *snapshot, emit func(driver.Event)) error {
	ended := func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return driver.ErrClosed
		default:
			return nil
		}
	}
	if err := snap.emit(w.rng, ended, emit); err != nil {
		return err
	}
	emit(driver.Event{Type: driver.Synced})
	var spare []driver.Entry
	for {
		select {
		case <-w.wake:
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return driver.ErrClosed
		}
		batch := w.take(spare)
		for i, e := range batch {
			if i%checkEvery == checkEvery-1 {
				if err := ended(); err != nil {
					return err
				}
			}
			emit(change(e))
		}
		clear(batch)
		spare = batch[:0]
		if cap(batch) > minPending {
			spare = nil // don't keep the memory of a busy moment
		}
	}
}

func change(e driver.Entry) driver.Event {
	if !e.Exists() {
		return driver.Event{Type: driver.Delete, Entry: e}
	}
	return driver.Event{Type: driver.Put, Entry: e}
}

// emit emits the entries of r, until ended says why not to go on.
func (sn *snapshot) emit(r driver.Range, ended func() error, emit func(driver.Event)) error {
	if !r.IsPrefix {
		if c, ok := sn.tree.Get([]byte(r.Key)); ok {
			emit(change(c.rec.Load().entry(c.key)))
		}
		return nil
	}
	it := sn.from(r.Key, "")
	for n := 1; ; n++ {
		_, c, ok := it.Next()
		if !ok || !strings.HasPrefix(c.key, r.Key) {
			return nil
		}
		if n%checkEvery == 0 {
			if err := ended(); err != nil {
				return err
			}
		}
		emit(change(c.rec.Load().entry(c.key)))
	}
}
