package conformance

import (
	"context"
	"time"

	"github.com/polykv/polykv/kv"
)

// retelling are clients whose kv.Watch hands each event through the function
// that start makes for the watch.
func retelling(h Harness, start func(f func(kv.Event) bool) func(kv.Event) bool) Harness {
	return clientsOf(h, func() func(*broken, kv.Options) {
		return func(b *broken, _ kv.Options) {
			b.watch = func(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
				return b.Forward.Watch(ctx, r, start(f))
			}
		}
	})
}

func followMutants() []mutant {
	return []mutant{
		{"a copy is complete before it is", "F1", "F1-in-step", retelling(memory(), func(f func(kv.Event) bool) func(kv.Event) bool {
			first := true
			return func(ev kv.Event) bool {
				if first && !f(kv.Event{Type: kv.Synced}) {
					return false
				}
				if first {
					pauseForOthers()
				}
				first = false
				return f(ev)
			}
		})},
		{"deletions are kept from a copy", "F1", "F1-in-step F1-cut", retelling(memory(), func(f func(kv.Event) bool) func(kv.Event) bool {
			return func(ev kv.Event) bool { return ev.Type == kv.Delete || f(ev) }
		})},
		{"interruptions are kept from a copy", "F1", "F1-cut", retelling(memory(), func(f func(kv.Event) bool) func(kv.Event) bool {
			return func(ev kv.Event) bool { return ev.Type == kv.Interrupted || f(ev) }
		})},
		{"versions come before their states", "F2", "F2-own-writes", retelling(memory(), func(f func(kv.Event) bool) func(kv.Event) bool {
			return func(ev kv.Event) bool {
				if ev.Type == kv.Put {
					if !f(kv.Event{Type: kv.Rewritten, Version: ev.Version}) {
						return false
					}
					pauseForOthers()
				}
				return f(ev)
			}
		})},
		{"a version comes only with another state", "F2", "F2-same-bytes", retelling(memory(), func(f func(kv.Event) bool) func(kv.Event) bool {
			return func(ev kv.Event) bool { return ev.Type == kv.Rewritten || f(ev) }
		})},
		{"a copy is told old states again", "F3", "F3-never-back", retelling(memory(), func(f func(kv.Event) bool) func(kv.Event) bool {
			var last *kv.Event
			return func(ev kv.Event) bool {
				before := last
				if ev.Type == kv.Put {
					last = &ev
				}
				if !f(ev) || before == nil || ev.Type != kv.Put {
					return ev.Type != kv.Put || before == nil
				}
				time.Sleep(5 * time.Millisecond) // for readers to look
				if !f(*before) {
					return false
				}
				time.Sleep(5 * time.Millisecond) // for readers to look
				return f(ev)
			}
		})},
	}
}
