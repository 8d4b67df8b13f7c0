package state

// unweigh takes what r adds out of the digests; its shard is locked.
func (s *Store) unweigh(sh *shard, r *Record) {
	s.weighed.Add(1)
	if r.pending {
		delete(sh.lazy, r)
		r.pending = false
	}
	if r.hidden {
		r.hidden = false
		s.hidden.Add(-1)
	}
	sh.digests[r.codec] = sh.digests[r.codec].Sub(r.digest)
	r.digest = Digest{}
}

// weighIn adds r to the digests, at once or when they are next asked for; its
// shard is locked.
func (s *Store) weighIn(sh *shard, r *Record) {
	s.weighed.Add(1)
	if r.lazy() {
		if sh.lazy == nil {
			sh.lazy = map[*Record]struct{}{}
		}
		sh.lazy[r] = struct{}{}
		r.pending = true
		return
	}
	r.weigh()
	sh.digests[r.codec] = sh.digests[r.codec].Add(r.digest)
}

// settle brings the digests of a shard up to date; it is locked.
func (sh *shard) settle() {
	for r := range sh.lazy {
		r.weigh()
		sh.digests[r.codec] = sh.digests[r.codec].Add(r.digest)
		delete(sh.lazy, r)
	}
}

// digest returns the digest of a codec's keys in the shard.
func (sh *shard) digest(reg *registered) Digest {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.settle()
	return sh.digests[reg]
}

// rooted are the digests of all keys as they were after so many changes.
type rooted struct {
	weighed uint64
	roots   []CodecDigest
}

// Roots returns the digest of all keys of each registered codec, in the order of
// Codecs. Keys that a peer refused (see Refused) are left out here and below. The
// slice must not be modified. It is asked for far more often than keys change.
func (s *Store) Roots() []CodecDigest {
	// Whoever changes a shard counts that while it is locked, and before. So what
	// is summed up here after the count was read has all that was counted.
	weighed := s.weighed.Load()
	if known := s.rooted.Load(); known != nil && known.weighed == weighed {
		return known.roots
	}
	roots := make([]CodecDigest, len(s.ids))
	for i, id := range s.ids {
		roots[i].Codec = id
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.settle()
		for reg, d := range sh.digests {
			root := &roots[reg.index].Root
			*root = root.Add(d)
		}
		sh.mu.Unlock()
	}
	s.rooted.Store(&rooted{weighed, roots})
	return roots
}

// Buckets returns the digests of the parts of a codec's keys. The sum of them is the
// root.
func (s *Store) Buckets(codec string) (digests [Buckets]Digest) {
	reg := s.codecs[codec]
	if reg == nil {
		return digests
	}
	for i := range s.shards {
		digests[i] = s.shards[i].digest(reg)
	}
	return digests
}

// Keys lists the keys in one bucket, deleted ones included, in no order.
func (s *Store) Keys(codec string, bucket int) []KeyDigest {
	reg := s.codecs[codec]
	if reg == nil || bucket < 0 || bucket >= Buckets {
		return nil
	}
	sh := &s.shards[bucket]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var keys []KeyDigest
	for _, r := range sh.records {
		if r.codec == reg && !r.hidden {
			keys = append(keys, r.keyDigest())
		}
	}
	return keys
}

// Have returns what this store has of a key of that codec, for the Read of a peer
// that has something newer; of a key that it doesn't have, only the Key.
func (s *Store) Have(codec, key string) KeyDigest {
	sh := s.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if r := sh.records[key]; r != nil && r.codec.id == codec {
		return r.keyDigest()
	}
	return KeyDigest{Key: key}
}

// Compare compares one bucket with what Keys returned on a peer: want is what the
// peer may have newer, give what the peer may lack. Hand the items of give to Read,
// and those of want to the peer's Read: they say what the receiver has.
//
// Peer is what the peer had seen when the comparison began. What this store has, and
// the peer has seen and lacks, is removed at once. Drop is what the peer has, and this
// store may have seen and lacks, for the peer's Drop.
func (s *Store) Compare(codec string, bucket int, theirs []KeyDigest, peer *Context) (want, give, drop []KeyDigest) {
	reg := s.codecs[codec]
	if reg == nil || bucket < 0 || bucket >= Buckets {
		return nil, nil, nil
	}
	sh := &s.shards[bucket]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	known := make(map[string]struct{}, len(theirs))
	for _, their := range theirs {
		if BucketOf(their.Key) != bucket {
			continue // whoever sends this can't be helped
		}
		known[their.Key] = struct{}{}
		r := sh.records[their.Key]
		switch {
		case r == nil:
			gone, left := s.removed(their)
			if gone {
				drop = append(drop, their)
			}
			if left {
				want = append(want, KeyDigest{Key: their.Key})
			}
			continue
		case r.hidden && r.merge != nil: // what the peer has of it has to come here all the same
			want = append(want, KeyDigest{Key: their.Key})
			continue
		case r.hidden:
			continue
		}
		ours := r.keyDigest()
		take, hand := s.decide(ours, their, r.codec == reg && r.merge != nil, peer)
		if take {
			want = append(want, ours)
		}
		if hand && r.codec == reg { // else it is given when that codec is compared
			give = append(give, their)
		}
	}
	for key, r := range sh.records {
		if _, ok := known[key]; ok || r.codec != reg || r.hidden {
			continue
		}
		if s.drop(sh, r, peer) {
			give = append(give, KeyDigest{Key: key})
		}
	}
	return want, give, drop
}

// decide tells whether a peer that has a key as their says may have something
// that this node lacks, and the other way round.
func (s *Store) decide(ours, their KeyDigest, merges bool, peer *Context) (take, hand bool) {
	if take, hand = s.overtakes(ours, their, peer); take || hand {
		return take, hand
	}
	a, b := ours, their
	if !ours.V.IsZero() && !their.V.IsZero() {
		a.E, b.E = s.deletions(ours, their, peer)
	}
	if take, hand = compare(a, b, merges); take || hand {
		return take, hand
	}
	return compare(ours, their, merges) // for one of the two to learn of the deletion
}

// removed tells of a key that is not here whether all or some of what a peer
// has of it may have been removed here, and whether some of it may be news.
func (s *Store) removed(their KeyDigest) (gone, left bool) {
	switch {
	case their.V.IsZero():
		return false, !s.expired(their)
	case !their.Digest.IsZero(): // it merges: only its parts tell
		return true, true
	}
	seen := s.context.covers(their.V)
	return seen, !seen
}

// drop removes of r what a peer that lacks the key has seen; the shard is
// locked. It reports whether anything is left.
func (s *Store) drop(sh *shard, r *Record, peer *Context) bool {
	if !r.live() || s.breaks(RuleDrop) {
		return true
	}
	rest := s.without(r, nil, peer)
	if rest != r {
		s.publish(sh, r, rest)
	}
	return rest != nil
}

// Drop removes states of keys, as KeyDigests say, that a peer has seen and lacks.
// Peer is what it had seen when the comparison began.
func (s *Store) Drop(codec string, keys []KeyDigest, peer *Context) {
	for _, k := range keys {
		sh := s.shard(k.Key)
		sh.mu.Lock()
		if r := sh.records[k.Key]; r != nil && r.codec.id == codec && !r.hidden && r.keyDigest() == k {
			s.drop(sh, r, peer)
		}
		sh.mu.Unlock()
	}
}

// compare is decide by the versions alone.
func compare(ours, their KeyDigest, merges bool) (take, hand bool) {
	if c := ours.E.Compare(their.E); c != 0 {
		return c < 0, c > 0
	}
	if ours.V.IsZero() || their.V.IsZero() { // who has it alive is ahead
		return ours.V != their.V && ours.V.IsZero(), ours.V != their.V && their.V.IsZero()
	}
	switch { // a zero digest is one of a value that doesn't merge, or that has become empty
	case merges && ours.Digest != their.Digest:
		return true, true
	case merges && !ours.Digest.IsZero():
		return false, false
	}
	c := ours.V.Compare(their.V)
	return c < 0, c > 0
}
