package conformance

import (
	"context"
	"slices"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// resync is a watch of values that does something else than it should with
// what arrives between an interruption and the next Synced.
func resync(h Harness, during func(e kv.Event, f valuesFunc) bool) Harness {
	return onEvents(h, func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
		interrupted := false
		_ = b.Forward.Watch(ctx, r, func(e kv.Event) bool {
			switch {
			case e.Type == kv.Interrupted:
				interrupted = true
			case e.Type == kv.Synced:
				interrupted = false
			case e.Type != kv.Put && e.Type != kv.Delete:
			case interrupted:
				return during(e, f)
			default:
				return f(e.Key, e.Value)
			}
			return true
		})
	})
}

func watchFaultMutants() []mutant {
	endsIfInterrupted := func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
		_ = b.Forward.Watch(ctx, r, func(e kv.Event) bool {
			switch e.Type {
			case kv.Put, kv.Delete:
				return f(e.Key, e.Value)
			case kv.Interrupted:
				return false
			default:
				return true
			}
		})
	}
	return []mutant{
		{"a watch ends when its connection breaks", "W6", "W6-deleted-meanwhile W6-changed-meanwhile W6-starts-cut W6-flapping", onEvents(memory(), endsIfInterrupted)},
		{"a watch ends when its server restarts", "W6", "W6-restart W6-leader-change W6-compaction W6-compacted-meanwhile", onEvents(remote(), endsIfInterrupted)},
		{"what changed during an interruption is left out", "W6", "W6-changed-meanwhile", resync(memory(), func(kv.Event, valuesFunc) bool { return true })},
		{"what was deleted during an interruption is left out", "W6", "W6-deleted-meanwhile", resync(memory(), func(e kv.Event, f valuesFunc) bool {
			return e.Type == kv.Delete || f(e.Key, e.Value)
		})},
		{"a watch starts from the beginning after an interruption", "W6", "W6-changed-meanwhile", onEvents(memory(),
			func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
				stopped := false
				for ctx.Err() == nil && !stopped {
					err := b.Forward.Watch(ctx, r, func(e kv.Event) bool {
						if e.Type == kv.Put || e.Type == kv.Delete {
							stopped = !f(e.Key, e.Value)
						}
						return e.Type != kv.Interrupted && !stopped
					})
					if err != nil {
						return
					}
				}
			})},
		{"a watch gives up after 20 ms of silence", "W6", "W6-hung", onEvents(memory(), func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			silence := time.AfterFunc(20*time.Millisecond, cancel)
			b.inside(ctx, r, func(key string, value any) bool {
				silence.Reset(20 * time.Millisecond)
				return f(key, value)
			})
		})},
		{"a watch tries again at once", "W6", "W6-not-hot", settings(memory(), func(o *kv.Options) { o.MinBackoff, o.MaxBackoff = 1, 1 })},
		{"a watch can't end while the store is away", "W6", "W6-ends-while-cut", client(func(b *broken, _ kv.Options) {
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
				b.inside(ctx, r, f)
				for kv.Ping(context.WithoutCancel(ctx), b.Forward) != nil {
					time.Sleep(time.Millisecond)
				}
			}
		})},
		{"what has a lower version than the highest is old", "W6", "W6-restored", forwardOnly()},
	}
}

// forwardOnly is a remote store whose driver takes no lower version of a key
// for news.
func forwardOnly() Harness {
	return Harness{New: func(T) Store {
		server := newServer()
		s := server.store()
		s.Open = func(c codec.Codec, o kv.Options) (kv.Client, error) {
			b := &brokenStore{Store: server.line()}
			var highest cache[driver.Version]
			b.watch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
				return b.Store.Watch(ctx, req, func(e driver.Event) {
					seen, _ := highest.get(req.Range.Key)
					if e.Type == driver.Put && e.Entry.Version < seen {
						return
					}
					highest.put(req.Range.Key, max(seen, e.Entry.Version))
					emit(e)
				})
			}
			return kv.New(b, c, &o), nil
		}
		return s
	}}
}

// without is kv.Watch without some events.
func without(hidden func(e kv.Event, synced bool) bool) Harness {
	return client(func(b *broken, _ kv.Options) {
		b.watch = func(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
			synced := false
			return b.Forward.Watch(ctx, r, func(e kv.Event) bool {
				hide := hidden(e, synced)
				synced = synced || e.Type == kv.Synced
				return hide || f(e)
			})
		}
	})
}

func watchEventMutants() []mutant {
	return slices.Concat(undecodableMutants(), []mutant{
		{"a watch of an invalid key waits", "W8", "W8-errors W8-returns", client(func(b *broken, _ kv.Options) {
			b.watch = func(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
				if !r.IsPrefix && kv.CheckKey(r.Key) != nil {
					<-ctx.Done()
					return ctx.Err()
				}
				return b.Forward.Watch(ctx, r, f)
			}
			b.values = func(ctx context.Context, r kv.Range, f func(string, any) bool) {
				if !r.IsPrefix && kv.CheckKey(r.Key) != nil {
					<-ctx.Done()
				}
				b.inside(ctx, r, f)
			}
		})},
		{"the end of a client is no error", "W8", "W8-errors", client(func(b *broken, _ kv.Options) {
			b.watch = func(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
				if err := b.Forward.Watch(ctx, r, f); ctx.Err() != nil || kv.CheckKey(r.Key) != nil {
					return err
				}
				return nil
			}
		})},
		{"Synced is not told", "W8", "W8-synced Typed-watch", without(func(e kv.Event, _ bool) bool { return e.Type == kv.Synced })},
		{"Synced is told before the snapshot", "W8", "W8-synced", client(func(b *broken, _ kv.Options) {
			b.watch = func(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
				if r.IsPrefix && !f(kv.Event{Type: kv.Synced}) {
					return nil
				}
				return b.Forward.Watch(ctx, r, f)
			}
		})},
		{"Delete is not told as an event", "W8", "W8-delete-event Typed-watch", without(func(e kv.Event, _ bool) bool { return e.Type == kv.Delete })},
		{"what can't be decoded is not told as an event", "W8", "W8-undecodable-event Typed-watch-errors", without(func(e kv.Event, _ bool) bool { return e.Type == kv.Undecodable })},
		{"interruptions are not told", "W8", "W8-interrupted-event", without(func(e kv.Event, _ bool) bool { return e.Type == kv.Interrupted })},
		{"Synced is told once only", "W8", "W8-interrupted-event", without(func(e kv.Event, synced bool) bool { return synced && e.Type == kv.Synced })},
		{"a client without guards says so when they are used", "W8", "W8-refused-at-once", func() Harness {
			h := guardedBy(func(context.Context, *broken, []kv.Guard) error { return kv.ErrNotSupported })
			h.Features.Lacks = []Extra{Guarded}
			return h
		}()},
		{"what is declared as missing is there", "W8", "W8-refused", func() Harness {
			h := memory()
			h.Features.Lacks = []Extra{Ping}
			return h
		}()},
	})
}

func undecodableMutants() []mutant {
	return []mutant{
		{"what can't be decoded ends a watch", "W7", "W7-goes-on W7-in-snapshot", onEvents(memory(), func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
			_ = b.Forward.Watch(ctx, r, func(e kv.Event) bool {
				if e.Type == kv.Put || e.Type == kv.Delete {
					return f(e.Key, e.Value)
				}
				return e.Type != kv.Undecodable
			})
		})},
		{"what can't be decoded is told as a deletion", "W7", "W7-goes-on W7-deleted W7-decodes-to-nil", onEvents(memory(), func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
			_ = b.Forward.Watch(ctx, r, func(e kv.Event) bool {
				return e.Type != kv.Put && e.Type != kv.Delete && e.Type != kv.Undecodable || f(e.Key, e.Value)
			})
		})},
		{"nobody is told what could not be decoded", "W7", "W7-counted", settings(memory(), func(o *kv.Options) { o.Observer = nil })},
	}
}
