package consul

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// Watch implements driver.Store with blocking queries. The first read is
// consistent. Of the others, each answer is a state of the store that is at
// least as new as its index. One with a lower index than seen before counts
// for nothing, since a server that lags would give it too; one with the same
// index differs only if Consul has forgotten about deletions since.
func (s *store) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	w := session{store: s, of: req.Range, emit: emit}
	w.from, _ = req.Position.(position)
	if req.BeforeSnapshot != nil {
		_, err := s.Locate(ctx, req.Range, nil) // only a server that answers is worth waiting for
		if err == nil {
			err = req.BeforeSnapshot(ctx)
		}
		if err != nil {
			return s.wrap(ctx, err)
		}
	}
	return s.wrap(ctx, w.run(ctx))
}

// session is one session of a watch.
type session struct {
	store *store
	of    driver.Range
	emit  func(driver.Event)
	from  position // from which it goes on, if it can
	last  listing  // what was emitted
	pace  pace

	awake context.Context    // done when w is to look at the store once more
	wake  context.CancelFunc // both under the lock of store.sessions
}

func (w *session) run(ctx context.Context) error {
	defer w.store.sessions.add(w)()
	first, err := w.read(ctx, 0)
	if err != nil {
		return err
	}
	if w.from.told != nil && first.gen == w.from.gen && first.index >= w.from.index {
		w.last = *w.from.told
		w.emit(driver.Event{Type: driver.Resumed})
		w.diff(first)
		w.synced(first)
	} else {
		w.snapshot(first)
	}
	for {
		if err := wait.For(ctx, time.Until(w.pace.next)); err != nil {
			return err
		}
		began := time.Now()
		next, woken, err := w.wait(ctx)
		if err != nil && (!woken || ctx.Err() != nil) {
			return err
		}
		took, same := time.Since(began), next.index == w.last.index
		var news bool
		if woken || next.index < w.last.index || same && took < w.store.cfg.WaitTime {
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
	if err != nil || now.index >= w.last.index {
		return err == nil && w.diff(now), err
	}
	// Restart comes before its snapshot is read: a watch that came until then goes by it.
	w.emit(driver.Event{Type: driver.Restart})
	if now, err = w.read(ctx, 0); err == nil {
		w.snapshot(now)
	}
	return true, err
}

// snapshot emits all of l.
func (w *session) snapshot(l listing) {
	for _, e := range l.entries {
		w.emit(e.Event())
	}
	w.synced(l)
}

// synced says that l is what the store had.
func (w *session) synced(l listing) {
	w.remember(l)
	w.emit(driver.Event{Type: driver.Synced, Entry: driver.Entry{Generation: l.gen}, Position: w.at()})
}

// at is the position once all of w.last is emitted.
func (w *session) at() position {
	told := w.last
	return position{told.gen, told.index, &told}
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
			same := old[0].Version == e.Version
			old = old[1:]
			if same {
				continue
			}
		}
		changed = append(changed, e)
	}
	gone = append(gone, old...)
	slices.SortStableFunc(changed, func(a, b driver.Entry) int { return cmp.Compare(a.Version, b.Version) })
	events := make([]driver.Event, 0, len(changed)+len(gone))
	for _, e := range changed {
		events = append(events, e.Event())
	}
	for _, e := range gone {
		events = append(events, driver.Entry{Key: e.Key, Generation: l.gen}.Event())
	}
	if news = len(events) > 0; !news {
		events = []driver.Event{{Type: driver.Progress}}
	}
	w.remember(l)
	events[len(events)-1].Position = w.at()
	for _, ev := range events {
		w.emit(ev)
	}
	return news
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
	q := w.store.query(false)
	if index > 0 {
		q.RequireConsistent, q.WaitIndex, q.WaitTime = false, index, w.store.cfg.WaitTime
	}
	return w.store.read(ctx, q, w.of, false)
}

// wait is read for what is newer than what was emitted, until somebody wakes w.
func (w *session) wait(ctx context.Context) (l listing, woken bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(w.awake, cancel)()
	l, err = w.read(ctx, w.last.index)
	return l, w.store.sessions.woken(w), err
}

// read reads a range.
func (s *store) read(ctx context.Context, q *api.QueryOptions, r driver.Range, keysOnly bool) (listing, error) {
	ask := func() (listing, error) { return s.list(ctx, q, r, keysOnly) }
	if !r.IsPrefix && s.inPath(r.Key) {
		ask = func() (listing, error) { return s.single(ctx, q, r.Key) }
	}
	l, err := ask()
	if errors.Is(err, kit.ErrHistoryChanged) { // as somebody else noticed meanwhile
		l, err = ask()
	}
	return l, err
}
