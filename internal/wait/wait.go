// Package wait waits, unless a context ends.
package wait

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// For waits for d, or until ctx is done, whose error it returns.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Signal leaves word in a channel of capacity 1, where there may be some already.
func Signal(word chan<- struct{}) {
	select {
	case word <- struct{}{}:
	default:
	}
}

// A Backoff is the jittered, growing pauses of one goroutine between attempts.
type Backoff struct {
	Next   time.Duration // the next pause
	pauses *backoff.ExponentialBackOff
}

// NewBackoff returns pauses of about first, and then more up to longest.
func NewBackoff(first, longest time.Duration) *Backoff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = first, longest
	b.Multiplier, b.RandomizationFactor = 2, 0.5
	w := &Backoff{pauses: b}
	w.Reset()
	return w
}

// Reset begins with the first pause again.
func (b *Backoff) Reset() {
	b.pauses.Reset()
	b.Next = b.pauses.NextBackOff()
}

// Take returns the next pause, for who waits by other means.
func (b *Backoff) Take() time.Duration {
	next := b.Next
	b.Next = b.pauses.NextBackOff()
	return next
}

// Fits reports whether the next pause ends before deadline.
func (b *Backoff) Fits(deadline time.Time) bool { return time.Now().Add(b.Next).Before(deadline) }

// Sleep waits for the next pause, or returns false as soon as one of the contexts
// is done. A value from early, which may be nil, ends it with true.
func (b *Backoff) Sleep(one, other context.Context, early <-chan struct{}) bool {
	timer := time.NewTimer(b.Take())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-one.Done():
		return false
	case <-other.Done():
		return false
	}
	return true
}
