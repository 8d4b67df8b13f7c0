package kit

import (
	"context"
	"sync"

	"github.com/polykv/polykv/kv/driver"
)

// Shared is what all calls of a handle share and the first of them opens, such as
// a connection: opening a handle contacts no server. It may be used concurrently;
// NewShared makes one.
type Shared[T any] struct {
	open  func(context.Context) (T, error)
	alive func(T) bool

	base  context.Context
	close context.CancelFunc
	tasks sync.WaitGroup

	mu      sync.Mutex
	value   T
	usable  bool        // value is there, and was not dropped
	opening *running[T] // nil: nobody opens it
}

// running is a call on a goroutine of a Shared, for all that wait for it.
type running[T any] struct {
	done  chan struct{} // closed when the rest is set
	value T
	err   error
}

// NewShared returns a Shared that open opens, once at a time, and that is opened
// again when alive denies it. open's ctx ends with Close only, so it needs limits of
// its own.
func NewShared[T any](open func(context.Context) (T, error), alive func(T) bool) *Shared[T] {
	s := &Shared[T]{open: open, alive: alive}
	s.base, s.close = context.WithCancel(context.Background())
	return s
}

// Get returns the value, which is opened if need be. An attempt to open it goes on
// when ctx is done, for the next call. After Close it is driver.ErrClosed.
func (s *Shared[T]) Get(ctx context.Context) (none T, err error) {
	if err := ctx.Err(); err != nil {
		return none, err
	}
	s.mu.Lock()
	if s.base.Err() != nil {
		s.mu.Unlock()
		return none, driver.ErrClosed
	}
	if s.usable && s.alive(s.value) {
		defer s.mu.Unlock()
		return s.value, nil
	}
	o := s.opening
	if o == nil {
		o = &running[T]{done: make(chan struct{})}
		s.opening = o
		s.tasks.Go(func() { s.attempt(o) })
	}
	s.mu.Unlock()
	select {
	case <-o.done:
		return o.value, o.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

func (s *Shared[T]) attempt(o *running[T]) {
	o.value, o.err = s.open(s.base)
	s.mu.Lock()
	s.value, s.usable, s.opening = o.value, o.err == nil, nil
	s.mu.Unlock()
	close(o.done)
}

// Drop has the value opened again by the next call.
func (s *Shared[T]) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usable = false
}

// Done is closed by Close.
func (s *Shared[T]) Done() <-chan struct{} { return s.base.Done() }

// Go runs f on a goroutine, for which Close waits. open may call it.
func (s *Shared[T]) Go(f func()) { s.tasks.Go(f) }

// Close ends an attempt to open the value, and waits for it and for all that Call
// began. The value is its owner's to close, before or after.
func (s *Shared[T]) Close() {
	s.mu.Lock()
	s.close()
	s.mu.Unlock()
	s.tasks.Wait()
}

// Call returns what f returns, or ctx's error as soon as ctx is done: for a
// library that may take its time to notice. Close waits for f.
func Call[T, R any](ctx context.Context, s *Shared[T], f func() (R, error)) (none R, err error) {
	c := &running[R]{done: make(chan struct{})}
	s.tasks.Go(func() {
		c.value, c.err = f()
		close(c.done)
	})
	select {
	case <-c.done:
		return c.value, c.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}
