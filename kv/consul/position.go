package consul

import (
	"context"
	"sync"

	"github.com/polykv/polykv/kv/driver"
)

// position is a driver.Position: what a range was at an index.
type position struct {
	gen, index uint64
	told       *listing // what a session had told by then; nil from Locate
}

// Covers implements driver.Position.
func (p position) Covers(other driver.Position) bool {
	o, ok := other.(position)
	return ok && p.gen == o.gen && p.index >= o.index
}

// Locate implements driver.Locator by the index of the range's names, which come
// without values. That of nothing is the index of all keys, to which no query
// of a session comes by itself: sessions of the range look again then.
func (s *store) Locate(ctx context.Context, r driver.Range, from driver.Position) (driver.Position, error) {
	l, err := s.read(ctx, s.query(false), r, true)
	if err != nil {
		return nil, s.wrap(ctx, err)
	}
	if len(l.entries) == 0 {
		s.sessions.wake(r)
	}
	at := position{gen: l.gen, index: l.index}
	if from != nil && at.Covers(from) && from.Covers(at) {
		return from, nil // of which more is known
	}
	return at, nil
}

// sessions are those that run. The zero value is ready.
type sessions struct {
	mu  sync.Mutex
	all map[*session]struct{}
}

func (o *sessions) add(w *session) (remove func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = map[*session]struct{}{}
	}
	o.all[w] = struct{}{}
	w.renew()
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.all, w)
		w.wake()
	}
}

// wake has the sessions of r look at the store once more.
func (o *sessions) wake(r driver.Range) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for w := range o.all {
		if w.of == r {
			w.wake()
		}
	}
}

// woken reports whether w is to look again, and counts that as done.
func (o *sessions) woken(w *session) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if w.awake.Err() == nil {
		return false
	}
	w.renew()
	return true
}

func (w *session) renew() { w.awake, w.wake = context.WithCancel(context.Background()) }
