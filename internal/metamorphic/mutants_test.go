package metamorphic

import (
	"context"
	"testing"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// mutant hands everything to another store but what it replaces.
type mutant struct {
	driver.Store
	get  func(context.Context, driver.Store, driver.GetRequest) (driver.Entry, error)
	swap func(context.Context, driver.Store, driver.Swap) (driver.Result, error)
	emit func(driver.Event) bool
}

func (m *mutant) Get(ctx context.Context, req driver.GetRequest) (driver.Entry, error) {
	if m.get != nil {
		return m.get(ctx, m.Store, req)
	}
	return m.Store.Get(ctx, req)
}

func (m *mutant) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if m.swap != nil {
		return m.swap(ctx, m.Store, s)
	}
	return m.Store.Swap(ctx, s)
}

func (m *mutant) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	return m.Store.Watch(ctx, req, func(e driver.Event) {
		if m.emit == nil || m.emit(e) {
			emit(e)
		}
	})
}

// mutants are what an engine amounts to that has lost one of its cares.
var mutants = map[string]func() *mutant{
	"what is remembered is written over whatever is there": func() *mutant {
		return &mutant{swap: func(ctx context.Context, store driver.Store, s driver.Swap) (driver.Result, error) {
			now, err := store.Get(ctx, driver.GetRequest{Key: s.Key})
			if err != nil {
				return driver.Result{Outcome: driver.NotApplied}, err
			}
			if s.Prev = now; s.Remove && !now.Exists() {
				return driver.Result{Outcome: driver.Conflict, Entry: now, Known: true}, nil
			}
			return store.Swap(ctx, s)
		}}
	},
	"what is remembered is returned": func() *mutant {
		seen := map[string]driver.Entry{}
		return &mutant{get: func(ctx context.Context, store driver.Store, req driver.GetRequest) (driver.Entry, error) {
			if e, ok := seen[req.Key]; ok && e.Exists() {
				return e, nil
			}
			e, err := store.Get(ctx, req)
			seen[req.Key] = e
			return e, err
		}}
	},
	"a write of unknown outcome is made again": func() *mutant {
		return &mutant{swap: func(ctx context.Context, store driver.Store, s driver.Swap) (driver.Result, error) {
			result, err := store.Swap(ctx, s)
			if result.Outcome == driver.Unknown {
				result.Outcome = driver.NotApplied
			}
			return result, err
		}}
	},
	"a watch forgets deletions": func() *mutant {
		return &mutant{emit: func(e driver.Event) bool { return e.Type != driver.Delete }}
	},
}

func TestMutantsAreCaught(t *testing.T) {
	for name, spoil := range mutants {
		t.Run(name, func(t *testing.T) {
			spoiled := func() variant {
				v := variant{open: opener(inmemory.NewStore())}
				v.spoil = func(s driver.Store) driver.Store {
					m := spoil()
					m.Store = s
					return m
				}
				return v
			}
			for seed := range uint64(20) {
				plan := draw(seed+1, 60)
				if problem := bubble(t, inMemory, plan).differs(bubble(t, spoiled, plan), plan); problem != "" {
					t.Log(problem)
					return
				}
			}
			t.Error("nobody notices")
		})
	}
}
