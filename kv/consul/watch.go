package consul

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// bodyTime is how long an answer may be under way once it has begun.
const bodyTime = time.Minute

// Watch implements driver.Store with blocking queries. The first read is
// consistent. Of the others, each answer is a state of the store that is at
// least as new as its index. One with a lower index than seen before counts
// for nothing, since a server that lags would give it too; one with the same
// index differs only if Consul has forgotten about deletions since.
func (s *store) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	w := session{store: s, of: req.Range, emit: emit}
	return s.wrap(ctx, w.run(ctx))
}

// session is one session of a watch.
type session struct {
	store *store
	of    driver.Range
	emit  func(driver.Event)
	last  listing // what was emitted
	pace  pace
}

func (w *session) run(ctx context.Context) error {
	first, err := w.read(ctx, 0)
	if err != nil {
		return err
	}
	w.snapshot(first)
	for {
		if err := w.pace.wait(ctx); err != nil {
			return err
		}
		began := time.Now()
		next, err := w.read(ctx, w.last.index)
		if err != nil {
			return err
		}
		took, same := time.Since(began), next.index == w.last.index
		var news bool
		if next.index < w.last.index || same && took < w.store.cfg.WaitTime {
			// The index went back, or the server gave up waiting because its
			// whole state was replaced.
			if news, err = w.reset(ctx); err != nil {
				return err
			}
		} else {
			news = w.diff(next)
		}
		w.pace.answered(news, took, next.cost)
	}
}

// reset looks, consistently, whether the store was set back. The index of a
// range also falls when Consul forgets about deletions in it.
func (w *session) reset(ctx context.Context) (news bool, err error) {
	now, err := w.read(ctx, 0)
	if err != nil {
		return false, err
	}
	if now.index >= w.last.index {
		return w.diff(now), nil
	}
	w.emit(driver.Event{Type: driver.Restart})
	w.snapshot(now)
	return true, nil
}

// snapshot emits all of l.
func (w *session) snapshot(l listing) {
	for _, e := range l.entries {
		w.emit(driver.Event{Type: driver.Put, Entry: e})
	}
	w.emit(driver.Event{Type: driver.Synced, Entry: driver.Entry{Generation: l.gen}})
	w.remember(l)
}

// diff emits how l differs from what was emitted before: values in the order
// in which they were written, then deletions, whose moments are not known.
func (w *session) diff(l listing) (news bool) {
	var changed, gone []driver.Entry
	old := w.last.entries
	for _, e := range l.entries {
		for len(old) > 0 && old[0].Key < e.Key {
			gone, old = append(gone, old[0]), old[1:]
		}
		if len(old) > 0 && old[0].Key == e.Key {
			if old[0].Version == e.Version {
				old = old[1:]
				continue
			}
			old = old[1:]
		}
		changed = append(changed, e)
	}
	gone = append(gone, old...)
	slices.SortStableFunc(changed, func(a, b driver.Entry) int { return cmp.Compare(a.Version, b.Version) })
	for _, e := range changed {
		w.emit(driver.Event{Type: driver.Put, Entry: e})
	}
	for _, e := range gone {
		w.emit(driver.Event{Type: driver.Delete, Entry: driver.Entry{Key: e.Key, Generation: l.gen}})
	}
	w.remember(l)
	return len(changed)+len(gone) > 0
}

// remember keeps l to compare with, without its values.
func (w *session) remember(l listing) {
	for i := range l.entries {
		l.entries[i].Value, l.entries[i].Meta = nil, nil
	}
	w.last = l
}

// read makes one query: a consistent one that doesn't wait if index is 0.
func (w *session) read(ctx context.Context, index uint64) (listing, error) {
	s := w.store
	ctx, cancel := context.WithTimeout(ctx, s.cfg.answerTime()+bodyTime)
	defer cancel()
	q := s.query(false)
	if index > 0 {
		q.RequireConsistent, q.WaitIndex, q.WaitTime = false, index, s.cfg.WaitTime
	}
	ask := func() (listing, error) { return s.list(ctx, q, w.of, false) }
	if !w.of.IsPrefix && s.inPath(w.of.Key) {
		ask = func() (listing, error) { return s.single(ctx, q, w.of.Key) }
	}
	l, err := ask()
	if errors.Is(err, kit.ErrHistoryChanged) { // as somebody else noticed meanwhile
		l, err = ask()
	}
	return l, err
}
