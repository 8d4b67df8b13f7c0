package conformance

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv"
)

// tellsLate is Entries that, when its loop was left, yields once more if
// something happened to the store meanwhile.
func tellsLate(h Harness) Harness {
	return clientsOf(h, func() func(*broken, kv.Options) {
		return func(b *broken, _ kv.Options) {
			b.entries = func(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error] {
				return func(yield func(kv.Entry, error) bool) {
					var happened atomic.Bool
					stop := b.witness(ctx, prefix, &happened)
					defer stop()
					for e, err := range b.Forward.Entries(ctx, prefix) {
						if yield(e, err) {
							continue
						}
						for until := time.Now().Add(200 * time.Millisecond); !happened.Load() && time.Now().Before(until); {
							time.Sleep(time.Millisecond)
						}
						if happened.Load() {
							yield(kv.Entry{}, kv.ErrUnavailable)
						}
						return
					}
				}
			}
		}
	})
}

// witness notes what happens to a prefix after a first look: a change, an
// interruption, the end.
func (b *broken) witness(ctx context.Context, prefix string, happened *atomic.Bool) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	begun, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		synced := false
		_ = b.Forward.Watch(ctx, kv.PrefixRange(prefix), func(e kv.Event) bool {
			if synced {
				happened.Store(true)
			}
			if e.Type == kv.Synced && !synced {
				synced = true
				close(begun)
			}
			return true
		})
		happened.Store(true)
	}()
	select {
	case <-begun:
	case <-ended:
	}
	return func() {
		cancel()
		<-ended
	}
}

func leftMutants() []mutant {
	return []mutant{
		{"who left a loop is told what happened meanwhile", "Entries", "Entries-left-amid-end Entries-left-amid-change Entries-left-amid-cut", tellsLate(memory())},
		{"who left a loop is told what its server did", "Entries", "Entries-left-amid-restart", tellsLate(remote())},
		{"a watch that was interrupted calls again, whatever was said", "W5", "W5-false-amid-cut", onEvents(memory(), func(ctx context.Context, b *broken, r kv.Range, f valuesFunc) {
			enough := false
			_ = b.Forward.Watch(ctx, r, func(e kv.Event) bool {
				switch e.Type {
				case kv.Put, kv.Delete:
					enough = !f(e.Key, e.Value) || enough
				case kv.Interrupted:
					if enough {
						_ = f(r.Key, nil)
						return false
					}
				case kv.Synced:
					return !enough
				}
				return true
			})
		})},
	}
}
