package inmemory

import (
	"fmt"
	"sync"

	"github.com/polykv/polykv/kv/driver"
)

// named holds the stores that are shared by name. It is package state because
// sharing without passing anything around is what names are for.
var named = struct {
	mu     sync.Mutex
	stores map[string]*namedStore
}{stores: map[string]*namedStore{}}

type namedStore struct {
	store   *Store
	handles int
}

// OpenNamed returns a handle on the store that has the given name in this
// process, made with cfg if there is none; the empty name is the default
// store's. When the last handle on a named store is closed, the store is
// dropped with its data, and the next OpenNamed starts with an empty one.
//
// It is an error to open a store that is already open with other settings.
func OpenNamed(name string, cfg Config) (driver.Store, error) {
	cfg = cfg.withDefaults()
	named.mu.Lock()
	defer named.mu.Unlock()
	n := named.stores[name]
	if n == nil {
		n = &namedStore{store: newStore(cfg)}
		named.stores[name] = n
	}
	if n.store.cfg != cfg {
		return nil, fmt.Errorf("in-memory store %q is open with other settings: max value size is %d, not %d bytes",
			name, n.store.cfg.MaxValueSize, cfg.MaxValueSize)
	}
	n.handles++
	return n.store.open(func() { releaseNamed(name) }), nil
}

func releaseNamed(name string) {
	named.mu.Lock()
	defer named.mu.Unlock()
	n := named.stores[name]
	if n.handles--; n.handles == 0 {
		delete(named.stores, name)
	}
}
