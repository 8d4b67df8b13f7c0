package conformance

import (
	"context"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// resuming is a remote store whose drivers' sessions do what session makes of
// them.
func resuming(session func(s *server, b *brokenStore)) Harness {
	return Harness{New: func(T) Store {
		server := newServer()
		s := server.store()
		wrap := func() *StoreLine {
			b := &brokenStore{Store: &handle{server: server}}
			session(server, b)
			return server.lineTo(b)
		}
		s.Open = func(c codec.Codec, o kv.Options) (kv.Client, error) { return kv.New(wrap(), c, &o), nil }
		s.OpenDriver = func() (driver.Store, error) { return wrap(), nil }
		return s
	}}
}

// retold is a remote store of whose sessions each event is handed through the
// function that start makes for the session.
func retold(start func(req driver.WatchRequest, emit func(driver.Event)) func(driver.Event)) Harness {
	return resuming(func(_ *server, b *brokenStore) {
		b.watch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
			return b.Store.Watch(ctx, req, start(req, emit))
		}
	})
}

func resumeMutants() []mutant {
	return []mutant{
		{"a session goes on one change too late", "Driver", "Driver-resumes Driver-resumes-amid-writes", retold(
			func(_ driver.WatchRequest, emit func(driver.Event)) func(driver.Event) {
				skip := false
				return func(ev driver.Event) {
					if ev.Type == driver.Resumed {
						skip = true
					} else if skip && ev.Type != driver.Synced {
						skip = false
						return
					}
					emit(ev)
				}
			})},
		{"a session goes on with the change before", "Driver", "Driver-resumes", resuming(func(_ *server, b *brokenStore) {
			var last driver.Event
			b.watch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
				return b.Store.Watch(ctx, req, func(ev driver.Event) {
					emit(ev)
					if ev.Type == driver.Resumed && last.Type == driver.Put {
						emit(last)
					}
					if ev.Type == driver.Put {
						last = ev
						last.Position = nil
					}
				})
			}
		})},
		{"a session that goes on says at once that it is in step", "Driver", "Driver-resumes", retold(
			func(req driver.WatchRequest, emit func(driver.Event)) func(driver.Event) {
				return func(ev driver.Event) {
					emit(ev)
					if ev.Type == driver.Resumed {
						emit(driver.Event{Type: driver.Synced, Position: req.Position})
					}
				}
			})},
		{"a position is ahead of its event", "Driver", "Driver-resumes-amid-writes", retold(
			func(_ driver.WatchRequest, emit func(driver.Event)) func(driver.Event) {
				return func(ev driver.Event) {
					if p, ok := ev.Position.(point); ok && ev.Type != driver.Synced {
						p.changes++
						ev.Position = p
					}
					emit(ev)
				}
			})},
		{"a snapshot has positions", "Driver", "Driver-resumes", retold(
			func(_ driver.WatchRequest, emit func(driver.Event)) func(driver.Event) {
				return func(ev driver.Event) {
					if ev.Type == driver.Put && ev.Position == nil {
						ev.Position = point{}
					}
					emit(ev)
				}
			})},
		{"a session goes on although the changes since are forgotten", "Driver", "Driver-resumes-compacted", retold(
			func(req driver.WatchRequest, emit func(driver.Event)) func(driver.Event) {
				skipping, first := false, true
				return func(ev driver.Event) {
					if first && req.Position != nil && ev.Type != driver.Resumed {
						skipping = true
						emit(driver.Event{Type: driver.Resumed})
					}
					first = false
					skipping = skipping && ev.Type != driver.Synced
					if !skipping {
						emit(ev)
					}
				}
			})},
		{"a session goes on in another history", "Driver", "Driver-resumes-restored", resuming(func(s *server, b *brokenStore) {
			b.watch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
				if p, ok := req.Position.(point); ok {
					s.journal.mu.Lock()
					if now := s.journal.at(); p.generation != now.generation {
						req.Position = now
					}
					s.journal.mu.Unlock()
				}
				return b.Store.Watch(ctx, req, emit)
			}
		})},
		{"a store is located where the session is", "Driver", "Driver-locates", resuming(func(_ *server, b *brokenStore) {
			b.locate = func(_ context.Context, _ driver.Range, from driver.Position) (driver.Position, error) {
				return from, nil
			}
		})},
	}
}
