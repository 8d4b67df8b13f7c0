package kv

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// upstream is one session after another of a range, and feeds the watches of
// the range and of what lies in it. It holds what the sessions told, so that a
// watch that comes later begins without reading the store: it has to know only
// how far the session must have come by then, and asks the driver for that (see
// driver.Locator), once for all who come at the same time.
type upstream struct {
	e      *engine
	rng    Range
	ctx    context.Context // ends with the last watch
	cancel context.CancelFunc
	work   sync.WaitGroup // its goroutines

	users int // watches, admitted or not; under the hub's lock

	mu       sync.Mutex
	prefixes []*downstream            // those that are fed, of prefixes
	keys     map[string][]*downstream // and of keys
	waiting  []*downstream            // not yet fed
	tending  bool                     // a goroutine looks after those who wait
	asked    uint64                   // counts its questions to the store

	held     map[string]*holding // what the store holds; nil: more than is kept, so nobody can join
	size     int                 // bytes of that
	scanned  int                 // bytes of the snapshot that was read last, or is being read
	session  uint64              // counts snapshots
	fresh    bool                // the session has emitted nothing yet
	scanning bool                // a snapshot is under way
	inStep   bool
	since    time.Time // when the session was first in step; zero: not yet
	position driver.Position
	end      context.CancelCauseFunc // of the session
	missed   bool                    // it did not tell of all, so the next one reads the range anew
	failed   error                   // why the last session ended, until the next one is in step
}

// holding is one key of an upstream.
type holding struct {
	entry driver.Entry
	seen  uint64 // the last snapshot that had it
}

// downstream is one watch of an upstream.
type downstream struct {
	ctx   context.Context // the watch's
	rng   Range
	table *watchTable
	up    *upstream // under the hub's lock

	// Under the lock of up.
	fed    bool
	joined uint64          // up.session when it came: a snapshot begun later has all that it needs
	asked  uint64          // the last question that was asked for it
	goal   driver.Position // from where on it can be fed; nil: not known
}

// join adds a watch. The first one is fed by the sessions from their beginning.
func (u *upstream) join(d *downstream) (ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.session > 0 && u.held == nil {
		return false
	}
	d.fed, d.joined, d.asked, d.goal = false, u.session, 0, nil
	if u.session == 0 {
		u.feed(d)
		return true
	}
	if u.failed != nil {
		d.table.interrupted(u.failed)
	}
	u.waiting = append(u.waiting, d)
	u.tend()
	return true
}

// feed has d told of everything from now on; u.mu is held.
func (u *upstream) feed(d *downstream) {
	d.fed = true
	d.table.begin()
	if d.rng.IsPrefix {
		u.prefixes = append(u.prefixes, d)
	} else {
		u.keys[d.rng.Key] = append(u.keys[d.rng.Key], d)
	}
}

// leave removes a watch, after which nothing is put into its table.
func (u *upstream) leave(d *downstream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	is := func(o *downstream) bool { return o == d }
	switch {
	case !d.fed:
		u.waiting = slices.DeleteFunc(u.waiting, is)
	case d.rng.IsPrefix:
		u.prefixes = slices.DeleteFunc(u.prefixes, is)
	default:
		if u.keys[d.rng.Key] = slices.DeleteFunc(u.keys[d.rng.Key], is); len(u.keys[d.rng.Key]) == 0 {
			delete(u.keys, d.rng.Key)
		}
	}
	d.fed = false
}

// everybody yields all watches that are fed; u.mu is held.
func (u *upstream) everybody(yield func(*downstream) bool) {
	for _, d := range u.prefixes {
		if !yield(d) {
			return
		}
	}
	for _, of := range u.keys {
		for _, d := range of {
			if !yield(d) {
				return
			}
		}
	}
}

// callers implements sink.
func (u *upstream) callers() (all []context.Context) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for d := range u.everybody {
		all = append(all, d.ctx)
	}
	return all
}

// begin implements sink.
func (u *upstream) begin(end context.CancelCauseFunc) driver.WatchRequest {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.end = end; u.missed {
		u.missed, u.position = false, nil
	}
	u.session++
	u.fresh, u.scanning, u.inStep = true, true, false
	for d := range u.everybody {
		d.table.begin()
	}
	req := driver.WatchRequest{Range: u.rng, Position: u.position}
	if u.session > 1 {
		req.BeforeSnapshot = u.spread(max(u.scanned, u.size))
	}
	return req
}

// emit implements sink.
func (u *upstream) emit(ev driver.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fresh {
		u.fresh = false
		// The states of a snapshot are newer than the position, so if it breaks
		// off no session may go on from there.
		if u.scanning = ev.Type != driver.Resumed || u.position == nil; u.scanning {
			u.position, u.scanned = nil, 0
		}
	}
	switch ev.Type {
	case driver.Put, driver.Delete:
		u.note(ev)
		for _, d := range u.keys[ev.Entry.Key] {
			d.table.emit(ev)
		}
		for _, d := range u.prefixes {
			d.table.emit(ev)
		}
	case driver.Restart:
		u.session++
		u.scanning, u.inStep, u.position, u.scanned = true, false, nil, 0
		u.tell(ev)
	case driver.Synced:
		u.synced()
		u.tell(ev)
	case driver.Resumed:
		if !u.scanning {
			u.tell(ev)
		}
	case driver.Progress:
	}
	if ev.Position != nil && !u.scanning {
		u.position = ev.Position
	}
	u.admit(ev.Type == driver.Synced)
}

// tell hands an event that is of no key to all; u.mu is held.
func (u *upstream) tell(ev driver.Event) {
	for d := range u.everybody {
		d.table.emit(ev)
	}
}

// note keeps a key's state for those who join later; u.mu is held.
func (u *upstream) note(ev driver.Event) {
	size := len(ev.Entry.Key) + len(ev.Entry.Value)
	if u.scanning {
		u.scanned += size
	}
	if u.held == nil {
		return
	}
	h := u.held[ev.Entry.Key]
	switch {
	case ev.Type == driver.Delete && h != nil:
		u.drop(h)
	case ev.Type == driver.Put:
		if h == nil {
			h = &holding{}
			u.held[ev.Entry.Key] = h
		}
		u.resize(size - len(h.entry.Key) - len(h.entry.Value))
		h.entry, h.seen = ev.Entry, u.session
		if u.e.hub.size.Load() > int64(u.e.opts.ShareBytes) {
			u.forget()
			u.tend() // those who wait need sessions of their own
		}
	}
}

func (u *upstream) drop(h *holding) {
	u.resize(-len(h.entry.Key) - len(h.entry.Value))
	delete(u.held, h.entry.Key)
}

func (u *upstream) resize(by int) {
	u.size += by
	u.e.hub.size.Add(int64(by))
}

// forget lets go of what the store holds; u.mu is held.
func (u *upstream) forget() {
	u.resize(-u.size)
	u.held = nil
}

// synced ends a snapshot, or the way of a resumed session; u.mu is held.
func (u *upstream) synced() {
	if u.scanning {
		for _, h := range u.held {
			if h.seen != u.session {
				u.drop(h)
			}
		}
	}
	u.scanning, u.inStep = false, true
	if u.since.IsZero() {
		u.since = time.Now()
	}
	if u.failed != nil {
		u.failed = nil
		u.e.outages.over(u.rng)
	}
}

// admit has those fed who waited for what has been emitted now; u.mu is held.
func (u *upstream) admit(synced bool) {
	if len(u.waiting) == 0 || !u.inStep || u.held == nil {
		return
	}
	u.waiting = slices.DeleteFunc(u.waiting, func(d *downstream) bool {
		if !(synced && d.joined < u.session) && !(d.goal != nil && u.position != nil && u.position.Covers(d.goal)) {
			return false
		}
		u.feed(d)
		if d.rng.IsPrefix {
			for key, h := range u.held {
				if d.rng.Contains(key) {
					d.table.emit(h.entry.Event())
				}
			}
		} else if h := u.held[d.rng.Key]; h != nil {
			d.table.emit(h.entry.Event())
		}
		d.table.emit(driver.Event{Type: driver.Synced})
		return true
	})
}

// interrupted implements sink.
func (u *upstream) interrupted(err error) (since time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.e.outages.begun(u.rng, err, u.failed == nil)
	since, u.since = u.since, time.Time{}
	u.inStep, u.failed = false, err
	for d := range u.everybody {
		d.table.interrupted(err)
	}
	for _, d := range u.waiting {
		d.table.interrupted(err)
	}
	return since
}

// stand returns what the store must be located from.
func (u *upstream) stand() (position driver.Position, inStep bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.position, u.inStep
}
