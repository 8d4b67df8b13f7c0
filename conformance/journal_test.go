package conformance

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/polykv/polykv/kv/driver"
)

// journal is what happened in a store, in order, so that watch sessions can go
// on from where others were.
type journal struct {
	mu         sync.Mutex
	generation uint64
	now        map[string]driver.Entry
	first      int // how many changes are forgotten
	changes    []driver.Entry
	more       chan struct{} // closed and replaced by every change
}

// point is a driver.Position: so many changes of a history.
type point struct {
	generation uint64
	changes    int
}

// Covers implements driver.Position.
func (p point) Covers(other driver.Position) bool {
	o, ok := other.(point)
	return ok && p.generation == o.generation && p.changes >= o.changes
}

func newJournal(generation uint64, entries []driver.Entry) *journal {
	j := &journal{more: make(chan struct{})}
	j.restore(generation, entries)
	return j
}

// restore begins another history, which holds entries.
func (j *journal) restore(generation uint64, entries []driver.Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.generation, j.first, j.changes = generation, 0, nil
	j.now = map[string]driver.Entry{}
	for _, e := range entries {
		j.now[e.Key] = e
	}
	close(j.more)
	j.more = make(chan struct{})
}

// compact forgets what happened so far.
func (j *journal) compact() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.first += len(j.changes)
	j.changes = nil
}

func (j *journal) add(e driver.Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Exists() {
		j.now[e.Key] = e
	} else {
		delete(j.now, e.Key)
	}
	j.changes = append(j.changes, e)
	close(j.more)
	j.more = make(chan struct{})
}

// at is the point up to which everything has happened; j.mu is held.
func (j *journal) at() point { return point{j.generation, j.first + len(j.changes)} }

// since returns what happened after from, where that leads to, and what is
// closed when more has happened; ok is false if it is not known any more.
func (j *journal) since(from driver.Position) (changes []driver.Entry, at point, more <-chan struct{}, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	p, _ := from.(point)
	if p.generation != j.generation || p.changes < j.first {
		return nil, point{}, nil, false
	}
	return j.changes[min(p.changes-j.first, len(j.changes)):], j.at(), j.more, true
}

// locate returns the point of the last change of a range that is remembered.
func (j *journal) locate(r driver.Range) point {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, e := range slices.Backward(j.changes) {
		if r.Contains(e.Key) {
			return point{j.generation, j.first + i + 1}
		}
	}
	return point{j.generation, j.first}
}

// snapshot returns what is there, sorted, and the point of that.
func (j *journal) snapshot(r driver.Range) (entries []driver.Entry, at point) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for key, e := range j.now {
		if r.Contains(key) {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b driver.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return entries, j.at()
}

// follow is a watch session.
func (j *journal) follow(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tell := func(e driver.Entry, generation uint64, at driver.Position) {
		e.Generation = generation
		ev := driver.Event{Type: driver.Put, Entry: e, Position: at}
		if !e.Exists() {
			ev.Type, ev.Entry.Value = driver.Delete, nil
		}
		emit(ev)
	}
	at, resumed := req.Position.(point)
	_, _, _, known := j.since(at)
	if resumed = resumed && known; resumed {
		emit(driver.Event{Type: driver.Resumed})
	} else {
		var entries []driver.Entry
		entries, at = j.snapshot(req.Range)
		for _, e := range entries {
			tell(e, at.generation, nil)
		}
		emit(driver.Event{Type: driver.Synced, Position: at})
	}
	for {
		changes, _, more, ok := j.since(at)
		if !ok {
			return errLostTrack
		}
		for _, e := range changes {
			at.changes++
			if req.Range.Contains(e.Key) {
				tell(e, at.generation, at)
			}
		}
		if resumed {
			emit(driver.Event{Type: driver.Synced, Position: at})
			resumed = false
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
