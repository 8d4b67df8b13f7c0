package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/feed"
)

// Config is what a Store is made of. Instance and the durations must not be 0.
type Config struct {
	Instance uint64           // random for each start of a node
	Codecs   []codec.Codec    // of all clients of the node; codec.Bytes is always there
	Clock    func() time.Time // nil: time.Now

	MaxClockSkew       time.Duration // how far ahead of the cluster's clock a version may be
	TombstoneTimeout   time.Duration // how long a deletion is remembered
	PartitionTolerance time.Duration // how long it is while a member is failed
	MaxTombstoneBytes  int           // of keys, with overhead; 0: no limit

	Broken Rule // for tests that must notice; none
}

// Store is what one node holds. All methods may be called concurrently; none waits
// for more than other calls of the store.
//
// Reads of single keys and listings take the current root of an immutable tree
// and wait for nothing. Everything else about a key is under the lock of
// its shard: a merge, which may take long for a large value that isn't
// persistent, holds up 1 in 256 keys.
type Store struct {
	cfg    Config
	clock  *clock
	codecs map[string]*registered
	ids    []string // sorted
	bytes  *registered

	tree   atomic.Pointer[Tree[*Record]] // of what exists
	shards [Buckets]shard

	mu   sync.Mutex // of publishing; taken while a shard is locked
	seq  driver.Version
	feed feed.Feed

	onLocal  func(Update)
	tombs    tombstones
	context  *contexts
	hidden   atomic.Int64  // records that a peer refused
	refusals atomic.Uint64 // see Refusals
	weighed  atomic.Uint64 // changes of what the digests stand for
	rooted   atomic.Pointer[rooted]
}

// shard is one bucket of the keys, deleted ones included.
type shard struct {
	mu      sync.Mutex
	records map[string]*Record
	digests map[*registered]Digest
	lazy    map[*Record]struct{} // whose digest is out of date

	outbox    []Update   // local writes that OnLocal was not told of; under mu
	delivered sync.Mutex // held while it is told; never taken while mu is held
}

// New returns an empty store.
func New(cfg Config) (*Store, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"MaxClockSkew", cfg.MaxClockSkew},
		{"TombstoneTimeout", cfg.TombstoneTimeout},
		{"PartitionTolerance", cfg.PartitionTolerance},
	} {
		if d.value <= 0 {
			return nil, fmt.Errorf("%s is %v; it must be positive", d.name, d.value)
		}
	}
	if cfg.Instance == 0 {
		return nil, errors.New("the instance is 0; it must be a random number")
	}
	s := &Store{cfg: cfg, clock: newClock(cfg), codecs: map[string]*registered{}}
	s.context = newContexts(s.Claim)
	s.context.seen = s.context.Covers
	if err := s.register(cfg.Codecs); err != nil {
		return nil, err
	}
	s.tree.Store(NewTree[*Record]())
	for i := range s.shards {
		s.shards[i].records = map[string]*Record{}
		s.shards[i].digests = map[*registered]Digest{}
	}
	return s, nil
}

func (s *Store) register(codecs []codec.Codec) error {
	for _, c := range codecs {
		if c == nil {
			return errors.New("a codec is nil")
		}
		id := c.CodecID()
		switch {
		case id == "" || len(id) > MaxCodecID:
			return fmt.Errorf("the codec id %q is %d bytes long; 1 to %d are allowed", id, len(id), MaxCodecID)
		case s.codecs[id] != nil:
			return fmt.Errorf("two codecs have the id %q", id)
		}
		s.codecs[id] = &registered{codec: c, id: id}
	}
	plain := codec.Bytes{}
	if s.codecs[plain.CodecID()] == nil {
		s.codecs[plain.CodecID()] = &registered{codec: plain, id: plain.CodecID()}
	}
	s.bytes = s.codecs[plain.CodecID()]
	for _, reg := range s.codecs {
		reg.view = &View{store: s, codec: reg.codec, reg: reg}
	}
	s.ids = slices.Sorted(maps.Keys(s.codecs))
	for i, id := range s.ids {
		s.codecs[id].index = i
	}
	return nil
}

// MaxCodecID is the length of the longest codec id, in bytes.
const MaxCodecID = 255

func (s *Store) registered(id string) (*registered, error) {
	if reg := s.codecs[id]; reg != nil {
		return reg, nil
	}
	return nil, fmt.Errorf("no codec with the id %q is registered on this node, only %q", id, s.ids)
}

// Codecs lists the ids of the registered codecs, sorted. Two nodes compare the
// codecs that both have.
func (s *Store) Codecs() []string { return s.ids }

// OnLocal sets what is called after each write by this node's clients, with what has
// to travel: for a Mergeable only the change. Calls for one key come in order. f may
// read the store but not write it, must not block, and may keep the update. It must be
// set before the first write.
func (s *Store) OnLocal(f func(Update)) { s.onLocal = f }

// Get returns the current state of a key, nil if it is absent.
func (s *Store) Get(key string) *Record {
	r, _ := s.tree.Load().Get(key)
	return r
}

// shard returns the shard of a key. The same key has the same bucket on every
// node.
func (s *Store) shard(key string) *shard { return &s.shards[BucketOf(key)] }

// BucketOf returns the bucket of a key.
func BucketOf(key string) int {
	h := uint64(14695981039346656037) // FNV-1a, whose high bits mix well enough for this
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return int((h ^ h>>32) * 0x9e3779b97f4a7c15 >> 56)
}

// publish puts next in the place of old, one of which may be nil; the shard is
// locked. The watches are told if what exists has changed.
func (s *Store) publish(sh *shard, old, next *Record) {
	key := ""
	s.standIn(old, next)
	if old != nil {
		key = old.key
		s.unweigh(sh, old)
	}
	if next != nil {
		key = next.key
		sh.records[key] = next
	} else {
		delete(sh.records, key)
	}
	s.tombs.replace(old, next)

	s.mu.Lock()
	defer s.mu.Unlock()
	if next != nil {
		s.seq++
		next.seq, next.staged = s.seq, nil
	}
	switch {
	case next.live():
		s.tree.Store(s.tree.Load().Set(key, next))
	case old.live():
		s.tree.Store(s.tree.Load().Delete(key))
	}
	if next != nil {
		s.weighIn(sh, next)
	}
	if next.live() || old.live() {
		s.feed.Tell(next.entry(key))
	}
}

// standIn notes what next takes the place of: what is gone by a deletion, and the
// deletion before, in the context, at once, so that a peer that refuses the tombstone
// as too old learns of it, too; what is overwritten in next, until that is gone.
func (s *Store) standIn(old, next *Record) {
	switch {
	case old == nil:
	case next == nil || !next.live() || next.e != old.e:
		gone := old.versions()
		if next == nil && old.live() {
			gone = old.over // what removes it covers its own versions
		}
		if !s.breaks(RuleDots) {
			s.context.add(s.context.uncovered(append(slices.Clip(gone), old.e)))
		}
	case next.merge != nil && old.merge != nil: // its parts remember
		next.over = old.over
	default:
		next.over = s.context.uncovered(old.replacedBy(next.v))
	}
}

// replaceQuietly puts next, the same state in another form, in the place of
// old; the shard is locked. Clients don't notice.
func (s *Store) replaceQuietly(sh *shard, old, next *Record) {
	s.unweigh(sh, old)
	next.seq, next.over = old.seq, old.over
	sh.records[old.key] = next
	s.tombs.replace(old, next)
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.live() {
		s.tree.Store(s.tree.Load().Set(old.key, next))
	}
	s.weighIn(sh, next)
}

// entry is r as a driver hands it to the engine; r may be nil.
func (r *Record) entry(key string) driver.Entry {
	if !r.live() {
		return driver.Entry{Key: key}
	}
	return driver.Entry{Key: key, Object: r, Version: r.seq}
}

// Entry is r as a driver hands it to the engine.
func (r *Record) Entry() driver.Entry { return r.entry(r.key) }
