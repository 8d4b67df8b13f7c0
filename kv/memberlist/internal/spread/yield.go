package spread

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// Tombstones are kept for PartitionTolerance. Two sides of a cluster that
// were apart for longer can't just merge: what one of them deleted and forgot
// the other would bring back. So one side yields: each of its nodes takes
// everything from a node of the other side, and drops what is older than the
// parting and not there. Until it has, the other side takes nothing from it
// by comparison. Changes made since the parting stay.
//
// A side is ranked by its number of members when the first member of the other
// one came back, and, if both have as many, by the lowest of their names. A
// node that has yielded has the rank of those that it yielded to: among
// nodes of its own side it wins over those that have not yielded yet.

// rank is what decides who yields.
type rank struct {
	members int
	lowest  string // name
	fixed   bool   // since a side came back, or this node yielded, not long ago
}

// before reports whether r yields to o.
func (r rank) before(o rank) bool {
	// The side with the lowest name is the stronger of two equal ones.
	return cmp.Or(cmp.Compare(r.members, o.members), cmp.Compare(o.lowest, r.lowest)) < 0
}

// yieldsTo reports whether a node must yield to another before they compare.
func (s *standing) yieldsTo(o *standing, tolerance time.Duration) bool {
	if s.young || o.young { // nothing in it is old enough
		return false
	}
	apart := max(s.apart, o.apart) > tolerance || s.rank.fixed || o.rank.fixed
	return apart && s.rank.before(o.rank)
}

// maxReunion is how long after a side came back, at most, its nodes may still
// have to yield.
const maxReunion = 10 * time.Minute

// reunion is what a node knows about the side that came back.
type reunion struct {
	mu     sync.Mutex
	rank   rank
	parted time.Time
	until  time.Time
}

// noteReturn is called with all members, and those that are new.
func (s *Spread) noteReturn(all, joined []network.Peer, now time.Time) {
	r := &s.reunion
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range joined {
		if p.Away <= s.cfg.PartitionTolerance {
			continue
		}
		if now.After(r.until) {
			r.rank, r.parted = s.rankAmong(all), now
			r.rank.fixed = true
			s.cfg.Logger.Warn("a member is back after a longer time than deletions are remembered; one side will yield",
				"member", p.Name, "away", p.Away.Round(time.Second), "members_of_this_side", r.rank.members)
		}
		if parted := p.Joined.Add(-p.Away); parted.Before(r.parted) {
			r.parted = parted
		}
		r.until = now.Add(min(maxReunion, s.cfg.PartitionTolerance))
		s.comparer.soon(p)
	}
}

// rankAmong is this node's rank, those members left out that came back.
func (s *Spread) rankAmong(peers []network.Peer) rank {
	r := rank{members: 1, lowest: s.self.Name}
	for i := range peers {
		if peers[i].Away > s.cfg.PartitionTolerance {
			continue
		}
		r.members++
		r.lowest = min(r.lowest, peers[i].Name)
	}
	return r
}

// standing returns what this node says about itself when a comparison begins.
func (s *Spread) standing() standing {
	now := time.Now()
	st := standing{
		instance: s.self.Instance, name: s.self.Name, codecs: s.store.Roots(),
		young: now.Sub(s.started) < s.cfg.PartitionTolerance,
	}
	s.reunion.mu.Lock()
	defer s.reunion.mu.Unlock()
	if now.Before(s.reunion.until) {
		st.rank, st.apart = s.reunion.rank, now.Sub(s.reunion.parted)
	} else {
		st.rank = s.rankAmong(s.Peers())
	}
	return st
}

// yield takes everything from the peer and drops what it lacks.
func (c *comparison) yield(ours, theirs *standing) error {
	apart := max(ours.apart, theirs.apart)
	since := c.s.cfg.Clock().Add(-apart) // by the clock that versions come from
	var both []string
	yielding := c.s.store.Yield(since)
	for _, our := range ours.codecs {
		if !slices.ContainsFunc(theirs.codecs, func(their state.CodecDigest) bool { return their.Codec == our.Codec }) {
			continue
		}
		both = append(both, our.Codec)
		if err := c.stream.send(msgAll, []byte(our.Codec)); err != nil {
			return err
		}
		in := recordReader{stream: c.stream}
		for {
			it, err := in.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			c.taken += len(it.Value)
			yielding.Take(it.Update)
		}
	}
	if err := c.stream.send(msgEnd); err != nil {
		return err
	}
	result := yielding.End(both)
	c.s.adopt(theirs.rank, time.Now().Add(-apart))
	c.s.count.yields.Add(1)
	c.s.count.yieldedKeys.Add(uint64(result.Dropped)) //nolint:gosec // not negative
	c.s.cfg.Logger.Warn("this node was apart for longer than deletions are remembered, and yielded to the other side",
		"to", c.peer.Name, "since", since, "keys_dropped", result.Dropped, "values_trimmed", result.Trimmed, "keys_taken", result.Taken)
	c.found = true
	c.s.comparer.soon(c.peer) // with what is newer here
	return nil
}

// adopt gives this node the rank of the side that it yielded to.
func (s *Spread) adopt(r rank, parted time.Time) {
	s.reunion.mu.Lock()
	defer s.reunion.mu.Unlock()
	r.fixed = true
	s.reunion.rank, s.reunion.parted = r, parted
	s.reunion.until = time.Now().Add(min(maxReunion, s.cfg.PartitionTolerance))
}
