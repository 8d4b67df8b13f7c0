package kv

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// underway is the requests of an engine that are under way. It ends each when
// its time is over, and all of them on Close.
//
// One timer serves all. With context.WithTimeout for the one and
// context.AfterFunc for the other a request costs 7 allocations, with this 4, and
// a round trip of 17 µs over loopback takes 1.8 µs more.
type underway struct {
	mu     sync.Mutex
	first  *request
	closed bool
	timer  *time.Timer // nil: none was needed yet
	rings  time.Time   // when the timer does; zero: it isn't set
}

// request is the context of one attempt: that of the call, and no longer than
// until its deadline.
type request struct {
	context.Context
	deadline time.Time
	late     atomic.Bool // the deadline has passed
	cancel   context.CancelCauseFunc

	prev, next *request // owned by underway
}

// Deadline implements context.Context.
func (r *request) Deadline() (time.Time, bool) {
	if d, ok := r.Context.Deadline(); ok && d.Before(r.deadline) {
		return d, true
	}
	return r.deadline, true
}

// Err implements context.Context.
func (r *request) Err() error {
	err := r.Context.Err()
	if err != nil && r.late.Load() {
		return context.DeadlineExceeded
	}
	return err
}

// begin returns the context of a request that may take as long as limit. The
// caller calls end with it.
func (u *underway) begin(ctx context.Context, limit time.Duration) *request {
	r := &request{deadline: time.Now().Add(limit)}
	r.Context, r.cancel = context.WithCancelCause(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		r.cancel(ErrClosed)
		return r
	}
	if r.next = u.first; r.next != nil {
		r.next.prev = r
	}
	u.first = r
	if u.rings.IsZero() || r.deadline.Before(u.rings) {
		u.set(r.deadline, limit)
	}
	return r
}

// set has the timer ring at a time, which is so far away; u.mu is held.
func (u *underway) set(at time.Time, away time.Duration) {
	u.rings = at
	if u.timer == nil {
		u.timer = time.AfterFunc(away, u.ring)
	} else {
		u.timer.Reset(away)
	}
}

// end takes leave of a request that is over.
func (u *underway) end(r *request) {
	r.cancel(nil)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.remove(r)
}

// remove takes r off the list, if it is on it; u.mu is held.
func (u *underway) remove(r *request) {
	switch {
	case r.prev != nil:
		r.prev.next = r.next
	case u.first == r:
		u.first = r.next
	default:
		return
	}
	if r.next != nil {
		r.next.prev = r.prev
	}
	r.prev, r.next = nil, nil
}

// ring ends the requests whose time is over. The timer is not stopped when
// they end by themselves: then it rings once more, and rests.
func (u *underway) ring() {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.rings = time.Time{}
	var earliest time.Time
	for r := u.first; r != nil; {
		next := r.next
		switch {
		case !r.deadline.After(now):
			u.remove(r)
			r.late.Store(r.Context.Err() == nil) // or its call has ended it already
			r.cancel(context.DeadlineExceeded)
		case earliest.IsZero() || r.deadline.Before(earliest):
			earliest = r.deadline
		}
		r = next
	}
	if !earliest.IsZero() && !u.closed {
		u.set(earliest, earliest.Sub(now))
	}
}

// close ends all requests, and those that begin from now on at once.
func (u *underway) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	if u.timer != nil {
		u.timer.Stop()
	}
	for r := u.first; r != nil; {
		next := r.next
		u.remove(r)
		r.cancel(ErrClosed)
		r = next
	}
}
