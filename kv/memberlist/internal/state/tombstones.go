package state

import (
	"slices"
	"sync/atomic"
	"time"
)

const (
	// maxGrain is how coarse the expiry of tombstones may be. All nodes
	// let the same tombstones expire when the clock passes a multiple of
	// the grain; otherwise their digests would differ all the time.
	maxGrain = time.Minute

	// tombstoneSize is what a tombstone takes besides its key, in bytes.
	tombstoneSize = 400
)

// tombstones counts those of keys.
type tombstones struct {
	count atomic.Int64
	bytes atomic.Int64
	hold  atomic.Bool   // a writer may still come with what it wrote before a deletion
	done  atomic.Uint64 // the limit of the last sweep
}

// replace counts next in and old out.
func (t *tombstones) replace(old, next *Record) {
	if old != nil && !old.live() {
		t.count.Add(-1)
		t.bytes.Add(-int64(len(old.key)) - tombstoneSize)
	}
	if next != nil && !next.live() {
		t.count.Add(1)
		t.bytes.Add(int64(len(next.key)) + tombstoneSize)
	}
}

// tombstoneLimit is the moment before which deletions are forgotten.
func (s *Store) tombstoneLimit() time.Time {
	age := s.cfg.TombstoneTimeout
	grain := max(min(maxGrain, age/60), time.Millisecond)
	if s.tombs.hold.Load() {
		age = max(age, s.cfg.PartitionTolerance)
	}
	return s.cfg.Clock().Truncate(grain).Add(-age)
}

// expired reports whether kd is a deletion that is forgotten.
func (s *Store) expired(kd KeyDigest) bool {
	return kd.V.IsZero() && kd.E.Time().Before(s.tombstoneLimit())
}

// strip removes expired tombstones from a value that isn't in the store yet,
// where that is cheap and matters: they count in the digest of a [Digester].
func (s *Store) strip(r *Record) {
	if d, ok := r.merge.(Digester); ok && d != nil {
		limit := s.tombstoneLimit()
		s.keepRemoved(r, limit)
		r.merge.RemoveTombstones(limit)
	}
}

// Expiry is what Expire did.
type Expiry struct {
	Keys    int // tombstones of keys that were removed
	Parts   int // tombstones within values that were removed
	Dropped int // of Keys, those removed before their time, to stay within Config.MaxTombstoneBytes
	Left    int // tombstones of keys that are left

	Forgotten uint64 // so far, of what was seen; see MaxMarks
}

// Expire removes tombstones older than TombstoneTimeout, or than PartitionTolerance
// while some writer wasn't heard of for that time and hasn't left. Call it every few
// seconds.
func (s *Store) Expire() (e Expiry) {
	now := s.cfg.Clock()
	s.tombs.hold.Store(!s.breaks(RuleHold) && s.context.lags(s.clock.self(), now.Add(-s.cfg.PartitionTolerance), now.Add(-s.cfg.TombstoneTimeout)))
	limit := s.tombstoneLimit()
	if wall := wallOf(limit); s.tombs.done.Swap(wall) != wall {
		for i := range s.shards {
			s.shards[i].expire(s, limit, &e)
		}
	}
	if most := int64(s.cfg.MaxTombstoneBytes); most > 0 && s.tombs.bytes.Load() > most {
		s.dropOldest(most, &e)
	}
	e.Left, e.Forgotten = int(s.tombs.count.Load()), s.context.forgotten.Load()
	return e
}

func (sh *shard) expire(s *Store, limit time.Time, e *Expiry) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, r := range sh.records {
		switch {
		case !r.live():
			if s.expired(r.keyDigest()) {
				s.publish(sh, r, nil)
				e.Keys++
			}
		case r.merge != nil:
			e.Parts += s.expireParts(sh, r, limit)
		}
	}
}

// keepRemoved has what the tombstones within r older than limit stand for stay
// known as seen, before they go.
func (s *Store) keepRemoved(r *Record, limit time.Time) {
	if c, ok := r.merge.(Causal); ok && !s.breaks(RuleDots) {
		s.context.add(c.Removed(limit))
	}
}

// expireParts removes the expired tombstones within a value. To clients that
// is no change.
func (s *Store) expireParts(sh *shard, r *Record, limit time.Time) (removed int) {
	m := r.merge.Clone()
	s.keepRemoved(r, limit)
	if _, removed = m.RemoveTombstones(limit); removed == 0 {
		return 0
	}
	next := r.again()
	next.merge = m
	hidden := r.hidden
	s.replaceQuietly(sh, r, next)
	if hidden {
		s.hide(sh, next)
	}
	return removed
}

// dropOldest removes the oldest tombstones until those left take most bytes.
func (s *Store) dropOldest(most int64, e *Expiry) {
	all := s.Tombstones()
	slices.SortFunc(all, func(a, b *Record) int { return a.e.Compare(b.e) })
	for _, r := range all {
		if s.tombs.bytes.Load() <= most {
			return
		}
		sh := s.shard(r.key)
		sh.mu.Lock()
		if sh.records[r.key] == r {
			s.publish(sh, r, nil)
			e.Keys++
			e.Dropped++
		}
		sh.mu.Unlock()
	}
}

// Tombstones returns the tombstones of keys, in no order.
func (s *Store) Tombstones() []*Record {
	var all []*Record
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, r := range sh.records {
			if !r.live() {
				all = append(all, r)
			}
		}
		sh.mu.Unlock()
	}
	return all
}
