package state

import (
	"fmt"
	"time"
)

// hide leaves a record out of the digests; its shard is locked.
func (s *Store) hide(sh *shard, r *Record) {
	s.unweigh(sh, r)
	r.hidden = true
	s.hidden.Add(1)
	s.refusals.Add(1)
}

// Refusals is how often records were left out of the digests so far, for whoever
// reads several things that must go together.
func (s *Store) Refusals() uint64 { return s.refusals.Load() }

// Refused notes that a peer refused the state of a key because its version is too
// far ahead. The state is left out of the digests and Health fails until Restamp has
// repaired it.
func (s *Store) Refused(key string, e, v Version) {
	sh := s.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if r := sh.records[key]; r != nil && r.e == e && r.v == v {
		s.hide(sh, r)
	}
}

// Health says why the store's writes don't reach others, or nil.
func (s *Store) Health() error {
	if err := s.clock.health(); err != nil {
		return err
	}
	if n := s.hidden.Load(); n > 0 {
		return fmt.Errorf("peers refuse the versions of %d keys as too far ahead of their clocks; is this node's clock right?", n)
	}
	return nil
}

// Restamp gives a new version to states that were refused and are too far ahead of
// the cluster's clock, once this node's own clock is right, and returns how many. They
// reach OnLocal as any write does. What nobody refused keeps its versions. Call it
// every few seconds: it costs nothing as long as all is well.
func (s *Store) Restamp() (repaired int) {
	ahead := s.clock.isAhead()
	if !ahead && s.hidden.Load() == 0 {
		return 0
	}
	limit, done, ok := s.clock.repair()
	if done != 0 {
		s.Left(done) // or all would wait for it with their tombstones
	}
	if !ok || s.hidden.Load() == 0 {
		return 0
	}
	now := Version{Wall: wallOf(s.cfg.Clock())}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		n := s.restampShard(sh, limit, now)
		sh.mu.Unlock()
		if n > 0 {
			s.deliver(sh)
			repaired += n
		}
	}
	return repaired
}

// restampShard repairs what was refused. Whatever else is ahead of this node's
// clock keeps its versions: the others may have it, and have deleted it since,
// and this clock may be the wrong one. Under a new version it would be news to
// them, and undo the deletion.
func (s *Store) restampShard(sh *shard, limit, now Version) (repaired int) {
	for _, r := range sh.records {
		newest := r.newest()
		switch {
		case !r.hidden:
			continue
		case newest.After(limit): // as a peer said, and now by this clock too
			s.restamp(sh, r, limit)
		case now.After(newest): // time has caught up with it
			next := r.again()
			s.replaceQuietly(sh, r, next)
			s.send(sh, next)
		default:
			continue
		}
		repaired++
	}
	return repaired
}

// again is the same state in another record.
func (r *Record) again() *Record {
	return &Record{key: r.key, codec: r.codec, e: r.e, v: r.v, merge: r.merge, bytes: r.bytes, bound: r.bound}
}

// restamp gives r new versions in place of those after limit.
func (s *Store) restamp(sh *shard, r *Record, limit Version) {
	next := r.again()
	if next.e.After(limit) {
		next.e = s.clock.next(Version{})
	}
	if next.live() && (next.v.After(limit) || next.e.After(next.v)) {
		next.v = s.clock.next(next.e)
	}
	if stamped, ok := next.merge.(Stamped); ok && stamped.Newest().After(limit) {
		next.merge = next.merge.Clone()
		stamped, _ = next.merge.(Stamped)
		stamped.Restamp(limit, next.v)
	}
	s.publish(sh, r, next)
	s.send(sh, next)
}

// send has all of r travel.
func (s *Store) send(sh *shard, r *Record) {
	if u, err := r.update(); err == nil {
		sh.outbox = append(sh.outbox, u)
	}
}

// Observe notes the wall clock of a peer, as it was a moment ago.
func (s *Store) Observe(peer string, wall time.Time) { s.clock.observe(peer, wall) }

// Forget forgets the clock of a peer that left.
func (s *Store) Forget(peer string) { s.clock.forget(peer) }
