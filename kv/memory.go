package kv

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/polykv/polykv/kv/driver"
)

// cached is an entry and the moment at or after which it was current.
type cached struct {
	entry   driver.Entry
	asOf    time.Time
	epoch   uint64 // of the store, when the request began that showed it
	guarded bool   // it was read under the guard of whoever holds it; never remembered
}

// memory is what the engine last saw of some keys, bounded in number, bytes
// and age. It only ever serves as the first guess of a swap.
type memory struct {
	mu       sync.Mutex
	lru      *simplelru.LRU[string, cached]
	bytes    int // of all keys and values
	maxBytes int
	maxAge   time.Duration
}

func newMemory(opts Options) *memory {
	m := &memory{maxBytes: opts.RememberBytes, maxAge: opts.RememberFor}
	m.lru, _ = simplelru.NewLRU(max(1, opts.RememberEntries), func(key string, r cached) { // it refuses sizes below 1 only
		m.bytes -= weight(key, r)
	})
	return m
}

func weight(key string, r cached) int { return len(key) + len(r.entry.Value) }

// get returns what is remembered of a key, unless it is too old or of another epoch.
func (m *memory) get(key string, epoch uint64) (cached, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.lru.Get(key)
	if ok && (r.epoch != epoch || time.Since(r.asOf) > m.maxAge) {
		m.lru.Remove(key)
		return cached{}, false
	}
	return r, ok
}

func (m *memory) put(entry driver.Entry, asOf time.Time, epoch uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.lru.Peek(entry.Key); ok { // overwritten, it is not counted off by itself
		m.bytes -= weight(entry.Key, old)
	}
	r := cached{entry: entry, asOf: asOf, epoch: epoch}
	m.bytes += weight(entry.Key, r)
	m.lru.Add(entry.Key, r)
	for m.bytes > m.maxBytes {
		m.lru.RemoveOldest()
	}
}

func (m *memory) drop(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.Remove(key)
}

func (m *memory) purge() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lru.Purge()
}
