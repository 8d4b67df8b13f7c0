package conformance

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

// locking are clients that hold a lock while a callback runs.
func locking(lockOf func(key string) string, release func(unlock func(), ended bool)) Harness {
	return client(func(b *broken, _ kv.Options) {
		var mu sync.Mutex
		locks := map[string]*sync.Mutex{}
		b.cas = func(ctx context.Context, key string, f casFunc) error {
			mu.Lock()
			lock := locks[lockOf(key)]
			if lock == nil {
				lock = &sync.Mutex{}
				locks[lockOf(key)] = lock
			}
			mu.Unlock()
			lock.Lock()
			ended := false
			defer func() { release(lock.Unlock, ended) }()
			err := b.Forward.CAS(ctx, key, f)
			ended = true
			return err
		}
	})
}

func contentionMutants() []mutant {
	always := func(unlock func(), _ bool) { unlock() }
	ifEnded := func(unlock func(), ended bool) {
		if ended {
			unlock()
		}
	}
	return []mutant{
		{"the second conflict is the last", "C5", "C5-whatever-retry-says C5-64-in-one-client C5-64-among-clients", looping(func(l *loop) { l.conflicts = 2 })},
		{"a conflict counts only if the callback asked for a retry", "C5", "C5-whatever-retry-says", client(func(b *broken, o kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				l := newLoop(b.Forward, o)
				l.conflicts = 1
				return l.CAS(ctx, key, func(in any) (any, bool, error) {
					out, retry, err := f(in)
					if retry {
						l.conflicts = 0
					}
					return out, retry, err
				})
			}
		})},
		{"a conflict passes for success", "C5", "C5-64-among-clients", looping(func(l *loop) {
			sound := l.write
			l.write = func(ctx context.Context, key string, prev kv.Version, in, out any) error {
				if err := sound(ctx, key, prev, in, out); !errors.Is(err, kv.ErrConflict) {
					return err
				}
				return nil
			}
		})},
		{"contention never ends", "C5", "C5-gives-up", settings(memory(), func(o *kv.Options) { o.ContentionTimeout = time.Hour })},
		{"a lock is held while a callback runs", "C5", "C5-nested C5-blocked-callback", locking(same, always)},
		{"one lock for all keys is held while a callback runs", "C5", "C5-keys-apart", locking(func(string) string { return "" }, always)},
		{"a panic or Goexit leaves a lock behind", "C5", "C5-panic C5-goexit", locking(same, ifEnded)},
		{"a panic of a callback becomes an error", "C5", "C5-panic", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) (err error) {
				defer func() {
					if p := recover(); p != nil {
						err = fmt.Errorf("panic: %v", p)
					}
				}()
				return b.Forward.CAS(ctx, key, f)
			}
		})},
	}
}

// elsewhere runs callbacks on a goroutine of their own and gives up waiting for
// them when ctx ends.
func elsewhere(b *broken, _ kv.Options) {
	b.cas = func(ctx context.Context, key string, f casFunc) error {
		return b.Forward.CAS(ctx, key, func(in any) (out any, retry bool, err error) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				out, retry, err = f(in)
			}()
			select {
			case <-done:
				return out, retry, err
			case <-ctx.Done():
				return nil, false, ctx.Err()
			}
		})
	}
}

func cancelMutants() []mutant {
	return []mutant{
		{"a pause outlives its ctx", "C6", "C6-in-backoff", looping(func(l *loop) {
			l.pause = func(context.Context, int) error {
				time.Sleep(min(l.o.MinBackoff, 2*shortly))
				return nil
			}
		})},
		{"a ctx that is over does not stop a write", "C6", "C6-cancelled-before", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				return errors.Join(b.Forward.CAS(context.WithoutCancel(ctx), key, f), ctx.Err())
			}
		})},
		{"the callback is abandoned when ctx ends", "C6", "C6-callback-not-interrupted", client(elsewhere)},
		{"a write of a callback that ctx overtook is kept", "C6", "C6-callback-not-interrupted", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				return errors.Join(b.Forward.CAS(context.WithoutCancel(ctx), key, f), ctx.Err())
			}
		})},
		{"conflicts go on after the deadline", "C6", "C6-among-conflicts", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				return b.Forward.CAS(context.WithoutCancel(ctx), key, f)
			}
		})},
		{"waiting for others ignores ctx", "C6", "C6-waiting-for-others", locking(same, func(unlock func(), _ bool) { unlock() })},
		{"requests ignore their ctx", "C6", "C6-no-answer", client(func(b *broken, _ kv.Options) {
			b.get = func(ctx context.Context, key string) (any, error) {
				return b.Forward.Get(context.WithoutCancel(ctx), key)
			}
		})},
		{"a cause hides that ctx was cancelled", "C6", "C6-with-cause", client(func(b *broken, _ kv.Options) {
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return b.Forward.CAS(ctx, key, f)
			}
		})},
		{"one caller's ctx ends the calls of others", "C6", "C6-one-member", client(func(b *broken, _ kv.Options) {
			var ended cache[error]
			b.cas = func(ctx context.Context, key string, f casFunc) error {
				if err, ok := ended.get(key); ok {
					return err
				}
				err := b.Forward.CAS(ctx, key, f)
				if errors.Is(err, context.Canceled) {
					ended.put(key, err)
				}
				return err
			}
		})},
	}
}
