package conformance

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/polykv/polykv/kv/driver"
)

// buffer is memory that a driver uses again for every value.
type buffer struct {
	mu  sync.Mutex
	mem []byte
}

func (b *buffer) hold(value []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if value == nil {
		return nil
	}
	if b.mem == nil {
		b.mem = make([]byte, 1<<20)
	}
	return b.mem[:copy(b.mem, value)]
}

// told is a driver whose sessions hand each event through f, which emits.
func told(f func(ev driver.Event, emit func(driver.Event))) func(b *brokenStore) {
	return func(b *brokenStore) {
		b.watch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
			return b.Store.Watch(ctx, req, func(ev driver.Event) { f(ev, emit) })
		}
	}
}

// changes reports whether an entry was written again, soon after it was read.
func (b *brokenStore) changes(ctx context.Context, was driver.Entry) bool {
	runtime.Gosched()
	now, err := b.Store.Get(ctx, driver.GetRequest{Key: was.Key})
	return err == nil && now.Exists() && now.Version != was.Version
}

func driverMutants() []mutant {
	return []mutant{
		{"what Get returned is written over", "Driver", "Driver-values-last", store(func(b *brokenStore) {
			var reused buffer
			b.get = func(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
				e, err := b.Store.Get(ctx, req)
				e.Value = reused.hold(e.Value)
				return e, err
			}
		})},
		{"what Scan returned is written over", "Driver", "Driver-values-last", store(func(b *brokenStore) {
			var reused buffer
			b.scan = func(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
				page, err := b.Store.Scan(ctx, req)
				for i := range page.Entries {
					page.Entries[i].Value = reused.hold(page.Entries[i].Value)
				}
				return page, err
			}
		})},
		{"what Watch emitted is written over", "Driver", "Driver-values-last", stores(func() func(*brokenStore) {
			var reused buffer
			return told(func(ev driver.Event, emit func(driver.Event)) {
				ev.Entry.Value = reused.hold(ev.Entry.Value)
				emit(ev)
			})
		})},
		{"changes that the snapshot includes are told again", "Driver", "Driver-told-once", store(func(b *brokenStore) {
			b.watch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
				var last *driver.Event
				return b.Store.Watch(ctx, req, func(ev driver.Event) {
					emit(ev)
					switch {
					case ev.Type == driver.Put && last == nil:
						last = &ev
					case ev.Type == driver.Synced && last != nil:
						emit(*last)
					}
				})
			}
		})},
		{"a key that is written meanwhile is told after the snapshot", "Driver", "Driver-hot-keys", store(func(b *brokenStore) {
			b.watch = func(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
				var late []driver.Event
				snapshot := true
				return b.Store.Watch(ctx, req, func(ev driver.Event) {
					if snapshot && ev.Type == driver.Put && b.changes(ctx, ev.Entry) {
						late = append(late, ev)
						return
					}
					emit(ev)
					if snapshot = snapshot && ev.Type != driver.Synced; !snapshot {
						for _, ev := range late {
							emit(ev)
						}
						late = nil
					}
				})
			}
		})},
		{"a key that is written meanwhile is not listed", "L1", "L1-among-changes Driver-hot-keys", store(func(b *brokenStore) {
			b.scan = func(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
				page, err := b.Store.Scan(ctx, req)
				page.Entries = slices.DeleteFunc(page.Entries, func(e driver.Entry) bool { return b.changes(ctx, e) })
				return page, err
			}
		})},
		{"an empty value is told as nil", "Driver", "Driver-entries", store(func(b *brokenStore) {
			b.get = func(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
				e, err := b.Store.Get(ctx, req)
				if len(e.Value) == 0 {
					e.Value = nil
				}
				return e, err
			}
		})},
		{"a conflict tells what the caller saw", "Driver", "Driver-outcomes", store(func(b *brokenStore) {
			b.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
				r, err := b.Store.Swap(ctx, s)
				if r.Outcome == driver.Conflict {
					r.Entry, r.Known = s.Prev, true
				}
				return r, err
			}
		})},
		{"a broken guard passes for a conflict", "Driver", "Driver-outcomes", store(func(b *brokenStore) {
			b.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
				r, err := b.Store.Swap(ctx, s)
				if r.Outcome == driver.GuardBroken {
					r = driver.Result{Outcome: driver.Conflict}
				}
				return r, err
			}
		})},
		{"a page begins with the key that it comes after", "Driver", "Driver-pages L1-pages", store(func(b *brokenStore) {
			b.scan = func(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
				page, err := b.Store.Scan(ctx, req)
				if req.After != "" && err == nil {
					again, err := b.Store.Get(ctx, driver.GetRequest{Key: req.After})
					page.Entries = append([]driver.Entry{again}, page.Entries...)
					return page, err
				}
				return page, err
			}
		})},
		{"a page has keys alone, which nobody asked for", "Driver", "Driver-pages", store(func(b *brokenStore) {
			b.scan = func(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
				page, err := b.Store.Scan(ctx, req)
				if len(page.Entries) > 0 {
					page.Keys = append(page.Keys, page.Entries[0].Key)
				}
				return page, err
			}
		})},
		{"a write is made whatever its ctx says", "Driver", "Driver-ended-ctx", store(func(b *brokenStore) {
			b.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
				return b.Store.Swap(context.WithoutCancel(ctx), s)
			}
		})},
	}
}
