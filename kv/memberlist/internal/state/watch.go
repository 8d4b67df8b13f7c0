package state

import (
	"context"
	"iter"

	"github.com/polykv/polykv/kv/driver"
)

// Watch runs a watch session as driver.Store has it, until ctx is done or
// closed is closed. emit runs under the store's lock: it must not use the
// store.
func (s *Store) Watch(ctx context.Context, closed <-chan struct{}, r driver.Range, emit func(driver.Event)) error {
	return s.feed.Watch(ctx, closed, r, emit, func(register func()) iter.Seq[driver.Entry] {
		s.mu.Lock()
		defer s.mu.Unlock()
		register()
		now := s.Snapshot()
		return func(yield func(driver.Entry) bool) { now.emit(r, yield) }
	})
}

// emit yields what is in r.
func (sn Snapshot) emit(r driver.Range, yield func(driver.Entry) bool) {
	if r.IsPrefix {
		sn.From(r.Key, "", func(rec *Record) bool { return yield(rec.Entry()) })
		return
	}
	if rec, ok := sn.tree.Get(r.Key); ok {
		yield(rec.Entry())
	}
}
