package conformance

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
)

// valuesFunc is the callback of a watch of values.
type valuesFunc = func(key string, value any) bool

// filtering are clients whose watches hand each call through a filter of their
// own, which calls f as it likes.
func filtering(filter func(r kv.Range, f valuesFunc) valuesFunc) Harness {
	return client(func(b *broken, _ kv.Options) {
		b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
			b.inside(ctx, r, filter(r, f))
		}
	})
}

// onEvents are clients whose watches of values are made of kv.Watch.
func onEvents(h Harness, watch func(ctx context.Context, b *broken, r kv.Range, f valuesFunc)) Harness {
	return clientsOf(h, func() func(*broken, kv.Options) {
		return func(b *broken, _ kv.Options) {
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) { watch(ctx, b, r, f) }
		}
	})
}

// readsFirst is a watch that tells what it has read, and then changes alone.
func readsFirst(then func()) func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
	return func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
		for entry, err := range b.Forward.Entries(ctx, r.Key) {
			if err == nil && r.Contains(entry.Key) && !f(entry.Key, entry.Value) {
				return
			}
		}
		then()
		live := false
		_ = b.Forward.Watch(ctx, r, func(e kv.Event) bool {
			live = live || e.Type == kv.Synced
			return !live || e.Type != kv.Put && e.Type != kv.Delete || f(e.Key, e.Value)
		})
	}
}

func watchStartMutants() []mutant {
	return []mutant{
		{"a watch begins with the next change", "W1", "W1-current-first W1-snapshot W1-no-gap", onEvents(memory(),
			func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
				live := false
				_ = b.Forward.Watch(ctx, r, func(e kv.Event) bool {
					live = live || e.Type == kv.Synced
					return !live || e.Type != kv.Put && e.Type != kv.Delete || f(e.Key, e.Value)
				})
			})},
		{"the current value is read before the watch begins", "W1", "W1-no-gap W1-prefix-no-gap", onEvents(memory(), readsFirst(pauseForOthers))},
		{"the current value is read a moment before the watch begins", "W1", "W1-prefix-no-gap", onEvents(memory(), readsFirst(runtime.Gosched))},
		{"the snapshot is in no order", "W1", "W1-snapshot W1-large-snapshot", onEvents(memory(),
			func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
				var snapshot []kv.Event
				live := false
				_ = b.Forward.Watch(ctx, r, func(e kv.Event) bool {
					switch {
					case e.Type == kv.Synced:
						live = true
						for _, e := range slices.Backward(snapshot) {
							if !f(e.Key, e.Value) {
								return false
							}
						}
					case e.Type == kv.Put && !live:
						snapshot = append(snapshot, e)
					case e.Type == kv.Put || e.Type == kv.Delete:
						return f(e.Key, e.Value)
					}
					return true
				})
			})},
		{"the snapshot ends with the first page", "W1", "W1-large-snapshot", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			calls := 0
			return func(key string, value any) bool {
				calls++
				return calls > 1000 && calls < 1200 || f(key, value)
			}
		})},
		{"an absent key begins with nil", "W1", "W1-absent", onEvents(memory(), func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
			if value, err := b.Forward.Get(ctx, r.Key); !r.IsPrefix && err == nil && value == nil && !f(r.Key, nil) {
				return
			}
			b.inside(ctx, r, f)
		})},
		{"a watch begins with what was before the last write", "W1", "W1-after-return", clients(func() func(*broken, kv.Options) {
			var before cache[any]
			return func(b *broken, _ kv.Options) {
				b.cas = func(ctx context.Context, key string, f casFunc) error {
					return b.Forward.CAS(ctx, key, func(in any) (any, bool, error) {
						before.put(key, in)
						return f(in)
					})
				}
				b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
					if old, _ := before.get(r.Key); old != nil && !f(r.Key, old) {
						return
					}
					b.inside(ctx, r, f)
				}
			}
		})},
		{"a client has room for 8 watches", "W1", "W1-many", client(func(b *broken, _ kv.Options) {
			var running atomic.Int64
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
				if running.Add(1) > 8 {
					<-ctx.Done()
				} else {
					b.inside(ctx, r, f)
				}
				running.Add(-1)
			}
		})},
	}
}

// queueing are clients whose watches read ahead of their callback, into a
// queue that put fills as it likes.
func queueing(put func(queue []seen, s seen) []seen) Harness {
	return client(func(b *broken, _ kv.Options) {
		b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
			ctx, cancel := context.WithCancel(ctx)
			var mu sync.Mutex
			var queue []seen
			more := make(chan struct{}, 1)
			var reader sync.WaitGroup
			defer reader.Wait()
			defer cancel()
			ended := make(chan struct{})
			reader.Go(func() {
				defer close(ended)
				b.inside(ctx, r, func(key string, value any) bool {
					mu.Lock()
					queue = put(queue, seen{key, value})
					mu.Unlock()
					select {
					case more <- struct{}{}:
					default:
					}
					return true
				})
			})
			for {
				mu.Lock()
				var next *seen
				if len(queue) > 0 {
					next, queue = &queue[0], queue[1:]
				}
				mu.Unlock()
				if next == nil {
					select {
					case <-more:
						continue
					case <-ended:
						return
					}
				}
				if ctx.Err() != nil || !f(next.key, next.value) {
					return
				}
			}
		}
	})
}

func watchQueueMutants() []mutant {
	oneAtATime := func(writersToo bool) Harness {
		return client(func(b *broken, _ kv.Options) {
			var mu sync.Mutex
			if writersToo {
				b.cas = func(ctx context.Context, key string, f casFunc) error {
					mu.Lock()
					defer mu.Unlock()
					return b.Forward.CAS(ctx, key, f)
				}
			}
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
				b.inside(ctx, r, func(key string, value any) bool {
					mu.Lock()
					defer mu.Unlock()
					return f(key, value)
				})
			}
		})
	}
	return []mutant{
		{"events are dropped when a buffer of 128 is full", "W2", "W2-every-key", queueing(func(queue []seen, s seen) []seen {
			if len(queue) >= 128 {
				return queue
			}
			return append(queue, s)
		})},
		{"a buffer of one keeps the oldest event", "W2", "W2-final-state", queueing(func(queue []seen, s seen) []seen {
			if len(queue) > 0 {
				return queue
			}
			return append(queue, s)
		})},
		{"every change is queued", "W2", "W2-conflated", queueing(func(queue []seen, s seen) []seen { return append(queue, s) })},
		{"keys that came and went are told", "W2", "W2-short-lived", shortLivedTold()},
		{"watches of one client wait for each other", "W2", "W2-one-slow-watch", oneAtATime(false)},
		{"writers wait for callbacks of watches", "W2", "W2-one-slow-watch", oneAtATime(true)},
	}
}

// shortLivedTold tells the deletion of keys whose creation it left out.
func shortLivedTold() Harness {
	return onEvents(memory(), func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
		h := &sync.Mutex{}
		var gone []string
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		told := map[string]bool{}
		var spy sync.WaitGroup
		defer spy.Wait()
		defer cancel()
		spy.Go(func() {
			b.inside(ctx, r, func(key string, value any) bool {
				if value == nil {
					h.Lock()
					gone = append(gone, key)
					h.Unlock()
				}
				return true
			})
		})
		b.inside(ctx, r, func(key string, value any) bool {
			told[key] = true
			h.Lock()
			missed := gone
			gone = nil
			h.Unlock()
			for _, m := range missed {
				if !told[m] && !f(m, nil) {
					return false
				}
			}
			return f(key, value)
		})
	})
}

func watchEndMutants() []mutant {
	return []mutant{
		{"the callback is called after it returned false", "W5", "W5-false", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			return func(key string, value any) bool {
				if f(key, value) {
					return true
				}
				return f(key, value)
			}
		})},
		{"ctx does not end a watch", "W5", "W5-ctx W5-ended-before", client(func(b *broken, _ kv.Options) {
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
				b.inside(context.WithoutCancel(ctx), r, f)
			}
		})},
		{"callbacks run on another goroutine", "W5", "W5-own-goroutine", client(func(b *broken, _ kv.Options) {
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
				done := make(chan struct{})
				go func() {
					defer close(done)
					b.inside(ctx, r, f)
				}()
				<-done
			}
		})},
		{"calls of one callback overlap", "W5", "W5-own-goroutine", filtering(func(_ kv.Range, f valuesFunc) valuesFunc {
			return func(key string, value any) bool {
				go f(key, value)
				runtime.Gosched()
				return true
			}
		})},
		{"a watch returns while its callback runs", "W5", "W5-ctx-during-callback", client(func(b *broken, _ kv.Options) {
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
				done := make(chan struct{})
				go func() {
					defer close(done)
					b.inside(ctx, r, f)
				}()
				select {
				case <-done:
				case <-ctx.Done():
				}
			}
		})},
		{"the client is locked while a watch calls back", "W5", "W5-uses-client", client(func(b *broken, _ kv.Options) {
			var mu sync.Mutex
			b.get = func(ctx context.Context, key string) (any, error) {
				mu.Lock()
				defer mu.Unlock()
				return b.Forward.Get(ctx, key)
			}
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
				b.inside(ctx, r, func(key string, value any) bool {
					mu.Lock()
					defer mu.Unlock()
					return f(key, value)
				})
			}
		})},
		{"each watch leaves a goroutine until Close", "W5", "W5-no-goroutine", client(func(b *broken, _ kv.Options) {
			closed := make(chan struct{})
			b.close = sync.OnceValue(func() error {
				close(closed)
				return b.Forward.Close()
			})
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
				go func() { <-closed }()
				b.inside(ctx, r, f)
			}
		})},
	}
}
