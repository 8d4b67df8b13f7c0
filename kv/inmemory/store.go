package inmemory

import (
	"sync"
	"sync/atomic"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/feed"
)

// Store is the data: a sorted map of versioned entries. Open gives a client
// its handle. All methods may be called concurrently.
//
// # How it works
//
// The keys are in an immutable radix tree, and readers take its current root
// with one atomic load, so a read never waits. A change of the key set copies
// the path from the root to the key. A new value for a key that exists would
// not have to: only a snapshot, held by a scan or by a starting watch, needs
// the old value. So a leaf is a cell whose record can be replaced in place,
// until a snapshot is taken; taking one is O(1), it opens a new epoch, and the
// first write to a cell of an older epoch copies the path as a change of the
// key set does. Between snapshots a write costs one small allocation, where
// the path copy costs 16 of them with one key in the store and 41 with
// 100,000: a whole Swap then takes 0.2 µs with one key, the copy alone 1.2 µs,
// and 4.4 with 100,000.
type Store struct {
	cfg Config

	tree atomic.Pointer[iradix.Tree[*cell]]

	// snap is the newest snapshot, or nil if it is out of date. It is reset
	// before the write that outdates it.
	snap atomic.Pointer[snapshot]

	mu    sync.Mutex // serialises writes, and what must fall between two of them
	index uint64     // of the last write
	epoch uint64     // number of snapshots taken

	granted uint64 // leases
	leases  feed.Leases
	feed    feed.Feed
}

// cell is one key of the tree.
type cell struct {
	key   string
	epoch uint64 // in which the cell was made; only then may rec change
	rec   atomic.Pointer[record]
}

// current returns the record of c, nil if the key is absent.
func (c *cell) current() *record {
	if c == nil {
		return nil
	}
	return c.rec.Load()
}

// record is one state of one key. It never changes.
type record struct {
	value   []byte
	version driver.Version
}

func (r *record) entry(key string) driver.Entry {
	if r == nil {
		return driver.Entry{Key: key}
	}
	return driver.Entry{Key: key, Value: r.value, Version: r.version}
}

func (r *record) versionOrZero() driver.Version {
	if r == nil {
		return 0
	}
	return r.version
}

// NewStore returns an empty store.
func NewStore(opts ...Option) *Store {
	var cfg Config
	for _, o := range opts {
		o(&cfg)
	}
	return newStore(cfg)
}

func newStore(cfg Config) *Store {
	s := &Store{cfg: cfg.withDefaults()}
	s.tree.Store(iradix.New[*cell]())
	return s
}

// read returns the current record of key, nil if it is absent.
//
// The record may be from a cell that a concurrent write has just taken out of
// the tree. It was then current at some moment after the tree was loaded,
// which is all that a linearizable read promises.
func (s *Store) read(key string) *record {
	c, _ := s.tree.Load().Get([]byte(key))
	return c.current()
}

// hold reports whether all of guards hold now.
func (s *Store) hold(guards []driver.Guard) bool {
	for _, g := range guards {
		if g.Version == 0 || s.read(g.Key).versionOrZero() != g.Version {
			return false
		}
	}
	return true
}

// readGuarded reads key at a moment when guards hold; false means that they
// don't. A version is never used twice, so a guard that holds before and after
// the read held all the time.
func (s *Store) readGuarded(key string, guards []driver.Guard) (*record, bool) {
	if !s.hold(guards) {
		return nil, false
	}
	rec := s.read(key)
	return rec, s.hold(guards)
}

// swap carries out sw, whose sizes were checked, and tells the watches.
func (s *Store) swap(sw *driver.Swap) (driver.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hold(sw.Guards) {
		return driver.Result{Outcome: driver.GuardBroken}, nil
	}
	tree, c := s.cell(sw.Key)
	if rec := c.current(); rec.versionOrZero() != sw.Prev.Version {
		return driver.Result{Outcome: driver.Conflict, Entry: rec.entry(sw.Key), Known: true}, nil
	}
	if sw.Lease != "" && !s.leases.Live(sw.Lease) {
		return driver.Result{Outcome: driver.NotApplied}, driver.ErrLeaseLost
	}
	s.leases.Attach(sw)
	return driver.Result{Outcome: driver.Applied, Entry: s.write(tree, c, sw), Known: true}, nil
}

// cell returns the tree and the cell of a key in it, nil if it is absent.
func (s *Store) cell(key string) (*iradix.Tree[*cell], *cell) {
	tree := s.tree.Load()
	c, _ := tree.Get([]byte(key))
	return tree, c
}

// write writes sw and tells the watches; s.mu is held.
func (s *Store) write(tree *iradix.Tree[*cell], c *cell, sw *driver.Swap) driver.Entry {
	var rec *record
	if s.snap.Load() != nil {
		s.snap.Store(nil)
	}
	s.index++
	if sw.Remove {
		tree, _, _ = tree.Delete([]byte(sw.Key))
		s.tree.Store(tree)
	} else {
		rec = &record{value: sw.Value, version: driver.Version(s.index)}
		if rec.value == nil {
			rec.value = []byte{} // nil is for absent keys
		}
		s.put(tree, c, sw.Key, rec)
	}
	entry := rec.entry(sw.Key)
	s.feed.Tell(entry)
	return entry
}

// put makes rec the current record of key, whose cell is c, nil if it has none.
func (s *Store) put(tree *iradix.Tree[*cell], c *cell, key string, rec *record) {
	if c != nil && c.epoch == s.epoch {
		c.rec.Store(rec)
		return
	}
	if c != nil {
		key = c.key // one string per key, however often it is written
	}
	c = &cell{key: key, epoch: s.epoch}
	c.rec.Store(rec)
	tree, _, _ = tree.Insert([]byte(key), c)
	s.tree.Store(tree)
}
