package state

import "time"

// Yielding is a node that gives in to a peer after it was isolated for longer
// than deletions are remembered: what is older than the isolation and the
// peer lacks, the peer may have deleted and forgotten, so it is dropped, and
// leaves no tombstone. What was written since then stays, and spreads.
//
// Hand it the whole state of every key of the peer, of every codec that both
// nodes have, and then end it. Its methods must not be called concurrently;
// the store goes on being used meanwhile.
type Yielding struct {
	store *Store
	since Version
	seen  map[string]struct{}
	done  Yielded
}

// Yielded is what came of a Yielding.
type Yielded struct {
	Taken   int // keys that the peer had newer
	Dropped int // keys that were dropped
	Trimmed int // keys whose value lost parts that the peer lacks
}

// Yield implements Replica.
func (s *Store) Yield(since time.Time) *Yielding {
	return &Yielding{store: s, since: Version{Wall: wallOf(since)}, seen: map[string]struct{}{}}
}

// Take takes in the state of one key of the peer.
func (y *Yielding) Take(u Update) Applied {
	if !u.Deleted() && !u.Partial {
		y.trim(u)
	}
	a := y.store.Apply(u)
	switch a.Outcome {
	case Changed:
		y.done.Taken++
		fallthrough
	case Unchanged, Older, Expired:
		y.seen[u.Key] = struct{}{}
	}
	return a
}

// trim drops from a value that merges what is older than the isolation and not
// in the peer's.
func (y *Yielding) trim(u Update) {
	s := y.store
	reg := s.codecs[u.Codec]
	if reg == nil || check(u) != nil {
		return
	}
	in, err := incoming(reg, u)
	if err != nil || in.merge == nil {
		return
	}
	sh := s.shard(u.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	cur := sh.records[u.Key]
	if !cur.live() || cur.codec != reg || cur.e != u.E {
		return // Apply decides by the deletion, or there is nothing to drop
	}
	source, ok := cur.merge.(DeltaSource)
	if !ok || !s.clock.accepts(in.newest()) {
		return
	}
	ours, _ := source.DeltaSince(y.since)
	if _, err := in.merge.Merge(ours, false); err != nil {
		return
	}
	s.strip(in)
	if d, ok := in.merge.(Digester); ok && d.Digest() == cur.content() {
		return
	}
	next := cur.again()
	next.merge, next.bound = in.merge, cur.bound+in.bound
	if in.v.After(next.v) {
		next.v = in.v
	}
	if change, err := in.merge.Clone().Merge(cur.merge, false); err == nil && change != nil {
		y.done.Trimmed++
	}
	s.publish(sh, cur, next)
}

// End drops what is older than the isolation and was not handed to Take. Only
// keys of the given codecs are dropped, those that the peer has too.
func (y *Yielding) End(codecs []string) Yielded {
	s := y.store
	for _, id := range codecs {
		reg := s.codecs[id]
		if reg == nil {
			continue
		}
		for i := range s.shards {
			y.endShard(&s.shards[i], reg)
		}
	}
	return y.done
}

func (y *Yielding) endShard(sh *shard, reg *registered) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for key, r := range sh.records {
		if _, ok := y.seen[key]; ok || !r.live() || r.codec != reg {
			continue
		}
		source, ok := r.merge.(DeltaSource)
		switch {
		case y.since.After(r.newest()):
			y.store.publish(sh, r, nil)
			y.done.Dropped++
		case ok: // some of it is newer
			ours, rest := source.DeltaSince(y.since)
			if rest.IsZero() {
				continue
			}
			next := r.again()
			next.merge = ours
			y.store.publish(sh, r, next)
			y.done.Trimmed++
		}
	}
}
