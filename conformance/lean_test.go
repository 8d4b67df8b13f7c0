package conformance

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// TestLeanDriver runs the suite over a driver that tells no more than it must:
// answers of writes say nothing but the outcome, failures of unknown outcome
// have no reason, pages hold two entries and share no moment, and sessions end
// without an error.
func TestLeanDriver(t *testing.T) {
	Run(t, wrapping(func() (open func() driver.Store, wrap func(driver.Store) driver.Store) {
		return knowingStore(), func(s driver.Store) driver.Store { return &lean{s} }
	}))
}

// TestDriverWithoutResolver runs the suite over a driver that can tell of no
// unknown write what became of it.
func TestDriverWithoutResolver(t *testing.T) { Run(t, store(func(*brokenStore) {})) }

type lean struct{ driver.Store }

func (l *lean) Resolve(s driver.Swap, now driver.Entry) driver.Outcome {
	r, ok := l.Store.(driver.Resolver)
	if !ok {
		return driver.Unknown
	}
	return r.Resolve(s, now)
}

func (l *lean) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	r, err := l.Store.Swap(ctx, s)
	if r.Outcome == driver.Unknown && ctx.Err() == nil {
		err = nil
	}
	return driver.Result{Outcome: r.Outcome}, err
}

func (l *lean) Scan(ctx context.Context, req driver.ScanRequest) (driver.Page, error) {
	if req.Limit == 0 || req.Limit > 2 {
		req.Limit = 2
	}
	page, err := l.Store.Scan(ctx, req)
	page.Snapshot = nil
	return page, err
}

func (l *lean) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	if err := l.Store.Watch(ctx, req, emit); ctx.Err() != nil {
		return err
	}
	return nil
}

// TestKnowingDriver runs the suite over a driver that remembers every write,
// so that it can tell of nearly each what became of it.
func TestKnowingDriver(t *testing.T) {
	Run(t, Driver(func(T) Opener {
		open := knowingStore()
		return func() (driver.Store, error) { return open(), nil }
	}))
}

// written is a state of a key and the write that made it.
type written struct {
	version driver.Version // 0: a removal
	id      uint64
}

// record is what was written, in order, by key.
type record struct {
	mu sync.Mutex
	of map[string][]written
}

// knowingStore makes an empty store and returns what opens handles on it.
func knowingStore() func() driver.Store {
	data, shared := inmemory.NewStore(), &record{of: map[string][]written{}}
	return func() driver.Store { return &knowing{data.Open(), shared} }
}

type knowing struct {
	driver.Store
	record *record
}

var _ driver.Resolver = (*knowing)(nil)

func (k *knowing) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	k.record.mu.Lock()
	defer k.record.mu.Unlock()
	r, err := k.Store.Swap(ctx, s)
	if r.Outcome == driver.Applied {
		k.record.of[s.Key] = append(k.record.of[s.Key], written{r.Entry.Version, s.ID})
	}
	return r, err
}

func (k *knowing) Resolve(s driver.Swap, now driver.Entry) driver.Outcome {
	k.record.mu.Lock()
	defer k.record.mu.Unlock()
	all := k.record.of[s.Key]
	if n := len(all); n > 0 && all[n-1] == (written{now.Version, s.ID}) {
		return driver.Applied
	}
	since := slices.IndexFunc(all, func(w written) bool { return w.version == s.Prev.Version })
	if s.Prev.Version == 0 || since < 0 || slices.ContainsFunc(all[since:], func(w written) bool { return w.id == s.ID }) {
		return driver.Unknown
	}
	return driver.NotApplied // the state that it was to replace is gone
}
