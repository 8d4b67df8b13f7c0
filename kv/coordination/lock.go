package coordination

import (
	"context"

	"github.com/polykv/polykv/kv"
)

// Lock is one participant of a lock: any number of goroutines of a process may
// want it, and get it one after the other, in turn with those of other
// participants. Its methods may be called concurrently.
type Lock struct{ session *session }

// NewLock returns the lock with that name, a key that is relative to c; the lock's
// own keys lie below it. Everybody who means the same lock uses the same name
// under the same prefix, and the same TTL. Nothing is contacted.
//
// A client on which no lock can hold, gossip, is refused with
// kv.ErrNotSupported. c must offer kv.Watch and kv.WithCodec. Close the lock
// before c.
func NewLock(c kv.Client, name string, opts Options) (*Lock, error) {
	s, err := newSession(c, name, opts)
	if err != nil {
		return nil, err
	}
	return &Lock{s}, nil
}

// Lock waits until it has the lock, first come, first served. Those that wait
// ahead and are dead are passed over. It ends with ctx's cause, with kv.ErrClosed
// when l is closed, and with an error of the store that trying again doesn't cure.
func (l *Lock) Lock(ctx context.Context) (*Held, error) {
	held, err := l.session.attempt(ctx, "", (*attempt).queued)
	return held, l.session.fail("Lock", err)
}

// TryLock takes the lock if nobody has it and nobody waits for it, and returns
// ErrHeld otherwise. A holder that died a moment ago still has it.
func (l *Lock) TryLock(ctx context.Context) (*Held, error) {
	held, err := l.session.attempt(ctx, "", (*attempt).atOnce)
	return held, l.session.fail("TryLock", err)
}

// Close gives back what is held, ends waiting calls with kv.ErrClosed, and
// releases what l needs. It is idempotent, and leaves the client open.
func (l *Lock) Close() error { return l.session.close() }

// atOnce takes the lock without waiting for a turn.
func (a *attempt) atOnce(ctx context.Context) (*Held, error) {
	queue, err := a.client.Get(ctx, a.names.queue())
	if err != nil {
		return nil, err
	}
	waiting, err := decode[[]string](a.names.queue(), queue)
	if err != nil {
		return nil, err
	}
	now, err := a.current(ctx)
	if err != nil {
		return nil, err
	}
	if now.ID != "" || len(waiting) > 0 {
		return nil, ErrHeld
	}
	held, err := a.swap(ctx, now)
	if held == nil && err == nil {
		err = ErrHeld
	}
	return held, err
}
