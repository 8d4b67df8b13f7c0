package coordination

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/polykv/polykv/kv"
)

// attempt is one call that wants the lock.
type attempt struct {
	*session
	id     string
	value  string
	joined time.Time // when it put itself into the queue last
}

// attempt makes one more attempt, by do, and leaves nothing of it unless it got
// the lock.
func (s *session) attempt(ctx context.Context, value string, do func(*attempt, context.Context) (*Held, error)) (held *Held, err error) {
	ctx, end, err := s.call(ctx)
	if err != nil {
		return nil, err
	}
	defer end() // before which Close doesn't clear away
	s.mu.Lock()
	s.attempts++
	a := &attempt{session: s, id: s.id + "." + strconv.FormatUint(s.attempts, 10), value: value}
	s.running[a.id] = struct{}{}
	s.mu.Unlock()
	defer func() {
		if held == nil {
			s.leave(a.id)
		}
	}()
	if err = s.enter(ctx); err == nil {
		held, err = do(a, ctx)
	}
	if held == nil && s.ctx.Err() != nil {
		err = kv.ErrClosed
	}
	return held, err
}

// queued waits for its turn and takes the lock.
func (a *attempt) queued(ctx context.Context) (*Held, error) {
	for {
		a.mu.Lock()
		now, changed := a.seen, a.changed
		a.mu.Unlock()
		held, err := a.step(ctx, now)
		switch {
		case held != nil:
			return held, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil && !passes(err):
			return nil, err
		}
		if err := a.pause(ctx, changed, a.opts.lookEvery()); err != nil {
			return nil, err
		}
	}
}

// passes reports whether an error of the store is one to wait out.
func passes(err error) bool {
	return errors.Is(err, kv.ErrUnavailable) || errors.Is(err, kv.ErrIndeterminate) || errors.Is(err, kv.ErrConflict)
}

// step does what there is to do with the lock as it is seen, and returns what it
// got.
func (a *attempt) step(ctx context.Context, now view) (*Held, error) {
	if now.holder.ID == a.id { // the answer to its swap was lost
		return a.adopt(ctx)
	}
	at := slices.Index(now.queue, a.id)
	if at < 0 {
		return nil, a.join(ctx)
	}
	for _, ahead := range now.queue[:at] {
		if ahead == now.holder.ID {
			continue // it is about to leave the queue
		}
		if dead, err := a.passOver(ctx, ahead); !dead || err != nil {
			return nil, err
		}
	}
	if id := now.holder.ID; id != "" {
		if dead, err := a.dead(ctx, sessionOf(id)); !dead || err != nil {
			return nil, err
		}
		a.opts.Observer(Event{Name: a.name, ID: id, Type: PassedOver, Term: now.holder.Term})
	}
	return a.swap(ctx, now.holder)
}

// join puts the attempt at the end of the queue. Until the watch has shown that,
// it is not done again at every look.
func (a *attempt) join(ctx context.Context) error {
	if !a.joined.IsZero() && time.Since(a.joined) < a.opts.beatEvery() {
		return nil
	}
	err := a.requeue(ctx, func(queue []string) []string {
		if slices.Contains(queue, a.id) {
			return queue
		}
		return append(queue, a.id)
	})
	if err == nil && a.joined.IsZero() {
		a.opts.Observer(Event{Name: a.name, ID: a.id, Type: Waiting})
	}
	a.joined = time.Now()
	return err
}

// passOver takes one that waits ahead out of the queue if it is dead.
func (a *attempt) passOver(ctx context.Context, ahead string) (bool, error) {
	session := sessionOf(ahead)
	dead, err := a.dead(ctx, session)
	if !dead || err != nil {
		return false, err
	}
	a.opts.Observer(Event{Name: a.name, ID: ahead, Type: PassedOver})
	err = a.dequeue(ctx, func(attempt string) bool { return sessionOf(attempt) == session })
	return err == nil, err
}

// dead reports whether a session's beat stood still for a TTL, and still does.
// Nothing follows from what was seen while the watch was out of step.
func (s *session) dead(ctx context.Context, session string) (bool, error) {
	if session == s.id {
		return false, nil
	}
	s.mu.Lock()
	p := s.peers[session]
	if p == nil {
		p = &lastBeat{since: time.Now()}
		s.peers[session] = p
	}
	suspect, was := s.seen.synced && time.Since(p.since) >= s.opts.TTL, p.stored
	s.mu.Unlock()
	if !suspect {
		return false, nil
	}
	// The watch may lag; that the beat is the same now proves that none was
	// written since it was seen.
	value, version, err := s.versions.GetVersion(ctx, s.names.beat(session))
	stored, _ := value.([]byte)
	if err != nil {
		stored = []byte(was) // the store is away, for others too
	}
	if err != nil || string(stored) != was {
		s.mu.Lock()
		s.peers[session] = &lastBeat{stored: string(stored), since: time.Now()}
		s.mu.Unlock()
		return false, err
	}
	if version != 0 {
		_, _ = s.versions.SwapVersion(ctx, s.names.beat(session), version, kv.Remove) // nobody else will
	}
	return true, nil
}

// swap takes the lock from nobody, or from a holder that is dead.
func (a *attempt) swap(ctx context.Context, from standing) (*Held, error) {
	a.mu.Lock()
	alive := time.Now().Before(a.valid)
	a.mu.Unlock()
	if !alive {
		return nil, nil // it would be lost at once
	}
	now, err := a.replace(ctx, from, func(now holder) (holder, bool) {
		return holder{ID: a.id, Value: a.value, Term: now.Term + 1}, now.ID == from.ID // or the watch lags
	})
	switch {
	case errors.Is(err, kv.ErrIndeterminate):
		return a.adopt(ctx)
	case errors.Is(err, kv.ErrConflict):
		return nil, nil // somebody else was faster
	case err != nil || now.ID != a.id:
		return nil, err
	}
	return a.hold(now)
}

// adopt finds out whether the attempt has the lock.
func (a *attempt) adopt(ctx context.Context) (*Held, error) {
	now, err := a.current(ctx)
	if err != nil || now.ID != a.id {
		return nil, err
	}
	return a.hold(now)
}

// hold begins a hold. The attempt stays a user of its session for as long.
func (a *attempt) hold(now standing) (*Held, error) {
	h := &Held{
		session: a.session, id: a.id, term: now.Term, value: now.Value, done: make(chan struct{}), dequeued: make(chan struct{}),
		guard: kv.Guard{Key: a.names.holder(), Version: now.version},
	}
	a.mu.Lock()
	closed := a.session.ctx.Err() != nil
	if !closed {
		a.held = h
		a.wg.Go(h.expire)
		a.wg.Go(h.dequeue)
	}
	a.mu.Unlock()
	if closed {
		return nil, kv.ErrClosed
	}
	a.opts.Observer(Event{Name: a.name, ID: a.id, Type: Acquired, Term: now.Term})
	return h, nil
}
