package kv

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// hub knows the upstreams that watches can join.
type hub struct {
	size    atomic.Int64 // bytes that all of them hold
	private atomic.Bool  // the store can't be located

	mu     sync.Mutex
	shared map[Range]*upstream
}

// join has d fed, by an upstream that there is or a new one.
func (e *engine) join(d *downstream) (ok bool) {
	e.hub.mu.Lock()
	defer e.hub.mu.Unlock()
	return e.place(d)
}

// place is join with the hub's lock held.
func (e *engine) place(d *downstream) (ok bool) {
	shared := e.locator != nil && e.opts.ShareBytes > 0 && !e.hub.private.Load()
	if shared {
		for u := range e.hub.around(d.rng) {
			if u.join(d) {
				d.up = u
				u.users++
				return true
			}
		}
	}
	if !e.gate.enter() {
		return false
	}
	u := &upstream{e: e, rng: d.rng, keys: map[string][]*downstream{}}
	u.ctx, u.cancel = context.WithCancel(e.ctx)
	if shared {
		u.held = map[string]*holding{}
		if e.hub.shared == nil {
			e.hub.shared = map[Range]*upstream{}
		}
		e.hub.shared[d.rng] = u
	}
	u.join(d)
	d.up = u
	u.users++
	u.work.Go(func() {
		defer e.gate.leave()
		e.sessions(u.ctx, u)
	})
	if e.compares && e.gate.enter() {
		u.work.Go(func() {
			defer e.gate.leave()
			u.compare()
		})
	}
	return true
}

// around yields the upstreams that have all of r, the widest first.
func (h *hub) around(r Range) func(yield func(*upstream) bool) {
	return func(yield func(*upstream) bool) {
		if len(h.shared) == 0 {
			return
		}
		for n := 0; n <= len(r.Key); n++ {
			if u := h.shared[PrefixRange(r.Key[:n])]; u != nil && !yield(u) {
				return
			}
		}
		if u := h.shared[r]; u != nil && !r.IsPrefix {
			yield(u)
		}
	}
}

// part ends the feeding of d, and waits for the goroutines that were there for
// it alone.
func (e *engine) part(d *downstream) {
	e.hub.mu.Lock()
	u := d.up
	u.leave(d)
	u.users--
	if u.users > 0 && !u.wanted() {
		e.scatter(u)
	}
	last := u.users == 0
	if last {
		e.end(u)
	}
	e.hub.mu.Unlock()
	if last {
		u.work.Wait()
	}
}

// wanted reports whether a watch of the very range is left. Watches within it
// alone don't need all that the session tells.
func (u *upstream) wanted() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	is := func(d *downstream) bool { return d.rng == u.rng }
	return !u.rng.IsPrefix || slices.ContainsFunc(u.prefixes, is) || slices.ContainsFunc(u.waiting, is)
}

// scatter gives what is left of an upstream's watches sessions of their own
// ranges; the hub's lock is held.
func (e *engine) scatter(u *upstream) {
	e.retire(u)
	u.mu.Lock()
	all := slices.AppendSeq(slices.Clone(u.waiting), u.everybody)
	u.mu.Unlock()
	for _, d := range all {
		e.move(d)
	}
}

// move has d fed by another upstream; the hub's lock is held.
func (e *engine) move(d *downstream) {
	d.up.leave(d)
	d.up.users--
	if !e.place(d) { // the client closes
		d.up.users++
	}
}

// disperse gives those who wait for u sessions of their own.
func (e *engine) disperse(u *upstream) {
	e.hub.mu.Lock()
	defer e.hub.mu.Unlock()
	e.retire(u)
	u.mu.Lock()
	waiting := u.waiting
	u.waiting = nil
	u.mu.Unlock()
	for _, d := range waiting {
		e.move(d)
	}
	if u.users == 0 {
		e.end(u)
	}
}

// retire lets nobody join u any more; the hub's lock is held.
func (e *engine) retire(u *upstream) {
	if e.hub.shared[u.rng] == u {
		delete(e.hub.shared, u.rng)
	}
}

// end ends an upstream without watches; the hub's lock is held.
func (e *engine) end(u *upstream) {
	e.retire(u)
	u.cancel()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forget()
	if u.failed != nil {
		u.failed = nil
		e.outages.over(u.rng)
	}
}
