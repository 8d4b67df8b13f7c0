package coordination

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

// Held is a lock that is held. Its methods may be called concurrently.
type Held struct {
	session *session
	id      string
	term    uint64
	value   string
	guard   kv.Guard
	done    chan struct{}

	dequeued chan struct{} // closed when its place in the queue was given up

	mu  sync.Mutex
	err error // why it is over; nil: it isn't
}

// Done returns a channel that is closed when the lock is given back or lost. It
// closes before anybody else may take over a lost one, by the clock of this
// process, unless this process is stopped at that moment: so what must not
// happen twice goes through [Held.Client] or carries [Held.Guard].
func (h *Held) Done() <-chan struct{} { return h.done }

// Err returns nil while the lock is held, then an error that matches ErrLost or
// ErrReleased.
func (h *Held) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// ID names this hold. No other has the same.
func (h *Held) ID() string { return h.id }

// Term counts how often the lock changed hands. It grows, and so is a fence for
// systems that can compare numbers; within one store Guard is the stronger one.
func (h *Held) Term() uint64 { return h.term }

// Guard is the fence: what carries it is refused with kv.ErrFenced as soon as
// somebody else got the lock, or the holder gave it back, however late it comes.
// Its key is that of the client that the lock was made with.
func (h *Held) Guard() kv.Guard { return h.guard }

// Client returns the client that the lock was made with, fenced: everything
// written by it is refused once the lock is lost, see [kv.Fenced]. It shares
// Close with that client.
func (h *Held) Client() (kv.Client, error) { return kv.Fenced(h.session.own, h.guard) }

// Context returns a ctx that ends with parent or when the lock is over; its
// cause is then h's error. Call cancel to release it earlier.
func (h *Held) Context(parent context.Context) (ctx context.Context, cancel context.CancelFunc) {
	ctx, end := context.WithCancelCause(parent)
	go func() {
		select {
		case <-h.done:
			end(h.Err())
		case <-ctx.Done():
		}
	}()
	return ctx, func() { end(context.Canceled) }
}

// Unlock gives the lock back, to the one that has waited longest. It returns
// ErrLost if it was lost before, and nil if it was given back before. If the
// store can't be reached until ctx ends, the lock is over for this process all
// the same, and is given back in the background as soon as it can; others take it
// over after a TTL.
func (h *Held) Unlock(ctx context.Context) error {
	if !h.end(ErrReleased, Released) {
		if err := h.Err(); errors.Is(err, ErrLost) {
			return err
		}
		return nil
	}
	select {
	case <-h.dequeued: // or the next one would wait until it is
	case <-ctx.Done():
	}
	now := standing{holder{h.id, h.value, h.term}, h.guard.Version}
	err := h.session.release(ctx, now, func(attempt string) bool { return attempt == h.id })
	h.session.leave(h.id)
	return err
}

// dequeue gives up the place in the queue, for which nobody has to wait. If it
// fails it is done when the hold is over.
func (h *Held) dequeue() {
	defer close(h.dequeued)
	ctx, cancel := h.session.bounded()
	defer cancel()
	_ = h.session.dequeue(ctx, func(attempt string) bool { return attempt == h.id })
}

// lose ends a hold that can't go on.
func (h *Held) lose(why string) {
	if h.end(&lostError{why}, Lost) {
		h.session.leave(h.id)
	}
}

type lostError struct{ why string }

func (e *lostError) Error() string        { return ErrLost.Error() + ": " + e.why }
func (e *lostError) Is(target error) bool { return target == ErrLost }

// end reports whether the hold was not over yet.
func (h *Held) end(err error, what EventType) bool {
	h.mu.Lock()
	over := h.err != nil
	if !over {
		h.err = err
		close(h.done)
	}
	h.mu.Unlock()
	if over {
		return false
	}
	s := h.session
	s.mu.Lock()
	if s.held == h {
		s.held = nil
	}
	s.mu.Unlock()
	s.opts.Observer(Event{Name: s.name, ID: h.id, Type: what, Term: h.term})
	return true
}

// expire ends the hold when its beat doesn't count any more, by this process's
// own clock.
func (h *Held) expire() {
	s := h.session
	for {
		s.mu.Lock()
		left := time.Until(s.valid)
		s.mu.Unlock()
		if left <= 0 {
			h.lose("no beat could be written in time")
			return
		}
		if s.pause(context.Background(), h.done, left) != nil || h.Err() != nil {
			return // Close gives it back
		}
	}
}
