package feed

import (
	"context"
	"iter"
	"sync"

	"github.com/polykv/polykv/kv/driver"
)

// minPending is how many changes may wait for a watch that is catching up
// before those that newer ones of the same key replace are dropped.
const minPending = 1024

// watch is one watch session.
//
// While it emits its snapshot, changes wait in pending. Once it has caught up
// it is live: the writer itself emits the change. That is possible because
// emit never blocks, and it was measured against a queue of every watch,
// emptied by the goroutine that called Watch: what the writer pays is the same
// (about 0.1 µs a watch with 100 of them: a queue, too, has a lock and somebody
// to wake), while a consumer has the change after 1 instead of 3 µs, as one
// goroutine less has to be woken, and no memory is used. The price is that
// emit runs under the store's lock, so it must not use the store.
//
// A writer emits under mu alone among the locks that a watch needs to end, so
// Watch returns and handles close whatever other watches do.
type watch struct {
	rng  driver.Range
	emit func(driver.Event)
	pos  int // among the watches of its range; the registry's

	mu      sync.Mutex
	state   watchState
	pending []driver.Entry // in the order of the store
	limit   int            // len(pending) at which it is conflated
}

type watchState uint8

const (
	catchingUp watchState = iota // the goroutine of Watch emits
	live                         // writers emit
	ended                        // nobody emits
)

// Watch runs a watch session until ctx is done or closed is closed, and returns
// ctx's error or driver.ErrClosed.
//
// subscribe is called once. It calls register, and takes a snapshot of the
// entries of r that exist, between the same two writes, so under the lock
// under which Tell is called; it returns that snapshot, in ascending order of
// keys.
func (f *Feed) Watch(ctx context.Context, closed <-chan struct{}, r driver.Range, emit func(driver.Event),
	subscribe func(register func()) iter.Seq[driver.Entry],
) error {
	w := &watch{rng: r, emit: emit, limit: minPending}
	initial := subscribe(func() { f.watches.add(w) })
	defer func() {
		w.end()
		f.watches.remove(w)
	}()
	stop := &stop{ctx: ctx, closed: closed}
	for e := range initial {
		if err := stop.poll(); err != nil {
			return err
		}
		emit(e.Event())
	}
	emit(driver.Event{Type: driver.Synced})
	if err := w.catchUp(stop); err != nil {
		return err
	}
	return stop.wait()
}

// notify emits a change, or keeps it while w is catching up. The caller holds
// the owner's lock.
func (w *watch) notify(e driver.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.state {
	case live:
		w.emit(e.Event())
	case catchingUp:
		if len(w.pending) >= w.limit {
			w.conflate()
		}
		w.pending = append(w.pending, e)
	}
}

// conflate keeps the newest change of each key. As it is done each time the
// queue has doubled, it costs O(1) a change and bounds the queue by twice the
// number of distinct keys.
func (w *watch) conflate() {
	seen := make(map[string]struct{}, len(w.pending))
	first := len(w.pending)
	for i := len(w.pending) - 1; i >= 0; i-- {
		e := w.pending[i]
		if _, newer := seen[e.Key]; !newer {
			seen[e.Key] = struct{}{}
			first--
			w.pending[first] = e
		}
	}
	n := copy(w.pending, w.pending[first:])
	clear(w.pending[n:])
	w.pending = w.pending[:n]
	w.limit = max(minPending, 2*n)
}

// catchUp emits what is pending until nothing is, and makes w live.
func (w *watch) catchUp(stop *stop) error {
	for {
		batch := w.take()
		if len(batch) == 0 {
			return nil
		}
		for _, e := range batch {
			if err := stop.poll(); err != nil {
				return err
			}
			w.emit(e.Event())
		}
	}
}

// take returns what is pending; if that is nothing, w is live.
func (w *watch) take() []driver.Entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	batch := w.pending
	w.pending = nil
	w.limit = minPending
	if len(batch) == 0 {
		w.state = live
	}
	return batch
}

// end waits for an emit that a writer is in, and allows no other.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = ended
	w.pending = nil
}

// stop tells when a watch must end, and why.
type stop struct {
	ctx    context.Context //nolint:containedctx // lives as long as the call it came with
	closed <-chan struct{}
	polls  uint
}

// wait waits for the end.
func (s *stop) wait() error {
	select {
	case <-s.ctx.Done():
		return s.ctx.Err()
	case <-s.closed:
		return driver.ErrClosed
	}
}

// poll returns nil if the watch may go on. It looks at every 256th call only.
func (s *stop) poll() error {
	if s.polls++; s.polls%256 != 0 {
		return nil
	}
	select {
	case <-s.closed:
		return driver.ErrClosed
	default:
		return s.ctx.Err()
	}
}
