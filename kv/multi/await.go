package multi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

func (l *records) writing(ctx context.Context, w *waiting) (*route, *permit, error) {
	r, err := l.await(ctx, w, func() *route { return l.writes })
	if err == nil {
		l.awaitOther(ctx, other(r.at))
	}
	return r, nil, err
}

// awaitOther waits, for as long as a write may wait for its mirror, until it is
// known whether a store is to be mirrored into: else the first writes of a
// client would not wait for their mirrors, and one that lives for one write only
// would never mirror.
func (l *records) awaitOther(ctx context.Context, at int) {
	if !l.core.cfg.Mirror || l.core.cfg.MirrorAsync {
		return
	}
	timer := time.NewTimer(l.core.cfg.MirrorTimeout)
	defer timer.Stop()
	for {
		l.mu.Lock()
		decided, changed := l.seen[at].reads > 0 || l.impatient, l.changed
		l.mu.Unlock()
		if decided {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			l.mu.Lock()
			l.impatient = true
			l.mu.Unlock()
		case <-ctx.Done():
			return
		case <-l.core.ctx.Done():
			return
		}
	}
}

func (l *records) reading(ctx context.Context, w *waiting) (*route, error) {
	return l.await(ctx, w, func() *route { return l.reads })
}

// await waits until there is a route that is not known to be wrong.
func (l *records) await(ctx context.Context, w *waiting, pick func() *route) (*route, error) {
	var poll *side.Pauses
	var hopeless [2]kv.Version
	var doubt bool
	for {
		l.mu.Lock()
		r, changed := pick(), l.changed
		usable := r != nil && (r != w.bad || l.fresh(r.at, w.ticket) && l.fresh(other(r.at), w.ticket))
		over, err := l.verdict(w.ticket)
		versions := [2]kv.Version{l.seen[0].version, l.seen[1].version}
		l.mu.Unlock()
		switch {
		case usable && r != w.bad:
			return r, nil
		case usable: // the records are as they were: what broke is whole again
			w.bad = nil
			if err := l.waitChange(ctx, nil, 5*time.Millisecond, w); err != nil {
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
			w.ticket = l.demand()
		}
		if poll == nil {
			poll = side.NewPauses(20*time.Millisecond, 500*time.Millisecond)
			l.wait(1)
			defer l.wait(-1)
		}
		if err := l.waitChange(ctx, changed, poll.NextBackOff(), w); err != nil {
			return nil, err
		}
	}
}

// wait counts n more calls that wait for a store to be primary.
func (l *records) wait(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting += n
	l.core.observer.Waiting(l.waiting)
}

// waitChange waits until a record was read, or for d, and then has the records read
// again. It fails when the call has waited for too long.
func (l *records) waitChange(ctx context.Context, changed <-chan struct{}, d time.Duration, w *waiting) error {
	if w.deadline.IsZero() {
		w.deadline = time.Now().Add(l.core.cfg.FenceTimeout)
	}
	timer := time.NewTimer(min(d, time.Until(w.deadline)))
	defer timer.Stop()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctxError(ctx)
	case <-l.core.ctx.Done():
		return kv.ErrClosed
	case <-timer.C:
	}
	if !time.Now().Before(w.deadline) {
		return l.tooLong()
	}
	l.refresh(0)
	l.refresh(1)
	return nil
}

// fresh reports whether a record was read since that ticket was given; l.mu is
// held.
func (l *records) fresh(i int, ticket uint64) bool {
	return l.seen[i].reads > 0 && l.seen[i].ticket >= ticket
}

// verdict says what is wrong while no store is primary. over is true if
// waiting won't help; l.mu is held.
func (l *records) verdict(ticket uint64) (over bool, err error) {
	if l.writes != nil || !l.fresh(0, ticket) || !l.fresh(1, ticket) {
		return false, nil
	}
	for i, s := range l.seen {
		switch {
		case s.err != nil && permanent(s.err):
			return true, &recordError{fmt.Errorf("no store is known to be primary: the record of store %q can't be read: %w", l.core.stores[i].name, s.err)}
		case s.err != nil, s.state() == side.Sealed, s.state() == side.Filling:
			return false, nil
		}
	}
	return true, fmt.Errorf("%w: no store is primary: %s; %s", kv.ErrFenced, l.describe(), l.advice())
}

// tooLong is the error of a call that has waited for FenceTimeout.
func (l *records) tooLong() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	waited := l.core.cfg.FenceTimeout
	err := errors.Join(l.seen[0].err, l.seen[1].err)
	if err == nil && !(l.seen[0].known && l.seen[1].known) {
		err = errors.New("no answer yet")
	}
	if err != nil {
		// As a text: what ended a read of a record is not what ended the call. Its
		// deadline was ours.
		return fmt.Errorf("%w: no store was known to be primary for %v: %s: %s", kv.ErrUnavailable, waited, l.describe(), err.Error())
	}
	return fmt.Errorf("%w: no store was primary for %v: %s; %s", kv.ErrFenced, waited, l.describe(), l.advice())
}

// recordError is an error of reading a record, which is not about the key that
// the caller named.
type recordError struct{ error }

// Unwrap returns the error.
func (e *recordError) Unwrap() error { return e.error }

// describe says what the records say; l.mu is held.
func (l *records) describe() string {
	text := [2]string{}
	for i, s := range l.seen {
		switch {
		case !s.known:
			text[i] = "unknown"
		case s.version == 0:
			text[i] = "without a record"
		default:
			text[i] = string(s.state())
		}
		text[i] = fmt.Sprintf("store %q is %s", l.core.stores[i].name, text[i])
	}
	return text[0] + ", " + text[1]
}

// advice says what to run; l.mu is held.
func (l *records) advice() string {
	switch {
	case l.seen[0].version == 0 && l.seen[1].version == 0:
		return `run "polykv migrate start" before clients run coordinated`
	case l.highest(side.Sealed) >= 0 || l.highest(side.Filling) >= 0:
		return `a cutover is under way; if this lasts, it was left half done: see "polykv migrate status", then run "polykv migrate cutover" or "polykv migrate abort"`
	default:
		return `see "polykv migrate status"`
	}
}
