package multi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

func (rs *records) writing(ctx context.Context, w *waiting) (*route, *permit, error) {
	r, err := rs.await(ctx, w, func() *route { return rs.writes })
	if err == nil {
		rs.awaitOther(ctx, other(r.at))
	}
	return r, nil, err
}

// awaitOther waits, for as long as a write may wait for its mirror, until it is
// known whether a store is to be mirrored into: else the first writes of a
// client would not wait for their mirrors, and one that lives for one write only
// would never mirror.
func (rs *records) awaitOther(ctx context.Context, at int) {
	if !rs.core.cfg.Mirror || rs.core.cfg.MirrorAsync {
		return
	}
	late := time.After(rs.core.cfg.MirrorTimeout)
	for {
		rs.mu.Lock()
		decided, changed := rs.seen[at].reads > 0 || rs.impatient, rs.changed
		rs.mu.Unlock()
		if decided {
			return
		}
		select {
		case <-changed:
		case <-late:
			rs.mu.Lock()
			rs.impatient = true
			rs.mu.Unlock()
		case <-ctx.Done():
			return
		case <-rs.core.ctx.Done():
			return
		}
	}
}

func (rs *records) reading(ctx context.Context, w *waiting) (*route, error) {
	return rs.await(ctx, w, func() *route { return rs.reads })
}

// await waits until there is a route that is not known to be wrong.
func (rs *records) await(ctx context.Context, w *waiting, pick func() *route) (*route, error) {
	var poll *wait.Backoff
	var hopeless [2]kv.Version
	var doubt bool
	for {
		rs.mu.Lock()
		r, changed := pick(), rs.changed
		usable := r != nil && (r != w.bad || rs.fresh(r.at, w.ticket) && rs.fresh(other(r.at), w.ticket))
		over, err := rs.verdict(w.ticket)
		versions := [2]kv.Version{rs.seen[0].version, rs.seen[1].version}
		rs.mu.Unlock()
		switch {
		case usable && r != w.bad:
			return r, nil
		case usable: // the records are as they were: what broke is whole again
			w.bad = nil
			if err := rs.waitChange(ctx, nil, 5*time.Millisecond, w); err != nil {
				return nil, err
			}
			return r, nil
		case r == nil && over && doubt && versions == hopeless:
			return nil, err
		case r == nil && over:
			// The two records were read one after the other, and what they say
			// together may never have been so. Nor may the next pair, unless
			// it is the same.
			doubt, hopeless = true, versions
			w.ticket = rs.demand()
		}
		if poll == nil {
			poll = wait.NewBackoff(20*time.Millisecond, 500*time.Millisecond)
			rs.wait(1)
			defer rs.wait(-1)
		}
		if err := rs.waitChange(ctx, changed, poll.Take(), w); err != nil {
			return nil, err
		}
	}
}

// wait counts n more calls that wait for a store to be primary.
func (rs *records) wait(n int) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.waiting += n
	rs.core.observer.Waiting(rs.waiting)
}

// waitChange waits until a record was read, or for d, and then has the records read
// again. It fails when the call has waited for too long.
func (rs *records) waitChange(ctx context.Context, changed <-chan struct{}, d time.Duration, w *waiting) error {
	if w.deadline.IsZero() {
		w.deadline = time.Now().Add(rs.core.cfg.FenceTimeout)
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctxError(ctx)
	case <-rs.core.ctx.Done():
		return kv.ErrClosed
	case <-time.After(min(d, time.Until(w.deadline))):
	}
	if !time.Now().Before(w.deadline) {
		return rs.tooLong()
	}
	rs.refresh(0)
	rs.refresh(1)
	return nil
}

// fresh reports whether a record was read since that ticket was given; rs.mu is
// held.
func (rs *records) fresh(i int, ticket uint64) bool {
	return rs.seen[i].reads > 0 && rs.seen[i].ticket >= ticket
}

// verdict says what is wrong while no store is primary. over is true if
// waiting won't help; rs.mu is held.
func (rs *records) verdict(ticket uint64) (over bool, err error) {
	if rs.writes != nil || !rs.fresh(0, ticket) || !rs.fresh(1, ticket) {
		return false, nil
	}
	for i, s := range rs.seen {
		switch {
		case s.err != nil && permanent(s.err):
			return true, &recordError{fmt.Errorf("no store is known to be primary: the record of store %q can't be read: %w", rs.core.stores[i].name, s.err)}
		case s.err != nil, s.state() == side.Sealed, s.state() == side.Filling:
			return false, nil
		}
	}
	return true, fmt.Errorf("%w: no store is primary: %s; %s", kv.ErrFenced, rs.describe(), rs.advice())
}

// tooLong is the error of a call that has waited for FenceTimeout.
func (rs *records) tooLong() error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	waited := rs.core.cfg.FenceTimeout
	err := errors.Join(rs.seen[0].err, rs.seen[1].err)
	if err == nil && !(rs.seen[0].known && rs.seen[1].known) {
		err = errors.New("no answer yet")
	}
	if err != nil {
		// As a text: what ended a read of a record is not what ended the call. Its
		// deadline was ours.
		return fmt.Errorf("%w: no store was known to be primary for %v: %s: %s", kv.ErrUnavailable, waited, rs.describe(), err.Error())
	}
	return fmt.Errorf("%w: no store was primary for %v: %s; %s", kv.ErrFenced, waited, rs.describe(), rs.advice())
}

// recordError is an error of reading a record, which is not about the key that
// the caller named.
type recordError struct{ error }

// Unwrap returns the error.
func (e *recordError) Unwrap() error { return e.error }

// describe says what the records say; rs.mu is held.
func (rs *records) describe() string {
	text := [2]string{}
	for i, s := range rs.seen {
		switch {
		case !s.known:
			text[i] = "unknown"
		case s.version == 0:
			text[i] = "without a record"
		default:
			text[i] = string(s.state())
		}
		text[i] = fmt.Sprintf("store %q is %s", rs.core.stores[i].name, text[i])
	}
	return text[0] + ", " + text[1]
}

// advice says what to run; rs.mu is held.
func (rs *records) advice() string {
	switch {
	case rs.seen[0].version == 0 && rs.seen[1].version == 0:
		return `run "polykv migrate start" before clients run coordinated`
	case rs.highest(side.Sealed) >= 0 || rs.highest(side.Filling) >= 0:
		return `a cutover is under way; if this lasts, it was left half done: see "polykv migrate status", then run "polykv migrate cutover" or "polykv migrate abort"`
	default:
		return `see "polykv migrate status"`
	}
}
