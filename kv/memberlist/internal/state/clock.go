package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// quorum is how many clocks, the own included, it takes to doubt the own: of
// two nobody can tell which is wrong.
const quorum = 3

// clock gives this node's writes their versions, and knows how far ahead one
// of another node may be.
type clock struct {
	now  func() time.Time
	skew time.Duration

	mu       sync.Mutex
	last     Version                  // the largest given or accepted
	claimed  Version                  // the largest claim of instance
	instance uint64                   // the writer of what is written here; another one after repair
	repaired time.Time                // when repair made that
	peers    map[string]time.Duration // how far ahead of ours each peer's wall clock is
}

func newClock(cfg Config) *clock {
	return &clock{now: cfg.Clock, instance: cfg.Instance, skew: cfg.MaxClockSkew, peers: map[string]time.Duration{}}
}

func wallOf(t time.Time) uint64 {
	return uint64(min(max(t.UnixMilli(), 0), maxWall)) //nolint:gosec // within 48 bits
}

// next is the version of a write that replaces states up to above.
func (c *clock) next(above Version) Version {
	now := wallOf(c.now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if above.After(c.last) {
		c.last = above
	}
	c.last = c.last.next(now, c.instance)
	return c.last
}

// self is the writer of what is written here.
func (c *clock) self() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.instance
}

// accept takes a version of another node into account, unless it is too far
// ahead of the cluster's clock.
func (c *clock) accept(v Version) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !v.After(c.last) {
		return nil
	}
	// The peers' clocks only count for versions that ours alone would refuse:
	// there is a median to find for each change otherwise.
	if v.Time().After(c.now().Add(c.skew)) && v.Time().After(c.limit()) {
		limit := c.limit()
		return fmt.Errorf("version %v is more than %v ahead of the cluster's clock, %v",
			v, c.skew, limit.Add(-c.skew).UTC().Format(time.RFC3339))
	}
	c.last = v
	return nil
}

// bound returns v if accept would take it, else the last version of its writer
// that accept would take. It leaves the clock alone.
func (c *clock) bound(v Version) Version {
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit := c.limit(); v.After(c.last) && v.Time().After(limit) {
		v.Wall = wallOf(limit)
	}
	return v
}

// limit is the last moment that a version may name; c.mu is held. A slow clock
// here must not refuse everybody else, so the median counts if it is later.
func (c *clock) limit() time.Time {
	now := c.now()
	if ahead, ok := c.median(); ok && ahead > 0 {
		now = now.Add(ahead)
	}
	return now.Add(c.skew)
}

// median is how far ahead of ours the median of all clocks is, ours included, and
// of two in the middle the slower; c.mu is held. So nothing is ahead of it but
// what most clocks are ahead of. ok is false if too few are known.
func (c *clock) median() (ahead time.Duration, ok bool) {
	offsets := slices.AppendSeq(make([]time.Duration, 1, 1+len(c.peers)), maps.Values(c.peers)) // the first is ours
	slices.Sort(offsets)
	return offsets[(len(offsets)-1)/2], len(offsets) >= quorum
}

func (c *clock) observe(peer string, wall time.Time) {
	ahead := wall.Sub(c.now())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers[peer] = ahead
}

func (c *clock) forget(peer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.peers, peer)
}

// health says how far the own clock is ahead of the peers', if that is too
// far for them to accept what is written here.
func (c *clock) health() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ahead, ok := c.median(); ok && -ahead > c.skew {
		return fmt.Errorf("this node's clock is %v ahead of the median of %d nodes, at most %v is accepted; its writes reach nobody",
			-ahead.Round(time.Millisecond), len(c.peers)+1, c.skew)
	}
	return nil
}

// repair sets the clock back if it has given versions that are too far ahead
// and the wall clock is right now. It returns the last moment that a version
// may name, and the writer that writes no more, 0 if there is none; ok is false
// if nothing can be done.
func (c *clock) repair() (limit Version, done uint64, ok bool) {
	if c.health() != nil {
		return Version{}, 0, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	limit = Version{Wall: wallOf(c.limit()), Counter: 1<<16 - 1, Instance: 1<<64 - 1}
	if now := c.now(); c.last.After(limit) {
		// Claims were made that are ahead of what is written from now on. Writes of keys
		// with such versions put the clock ahead again, and each writer is remembered.
		if now.Sub(c.repaired).Abs() < c.skew {
			return Version{}, 0, false
		}
		done, c.repaired = c.instance, now
		c.instance, c.claimed = rand.Uint64(), Version{}
		c.last = Version{Wall: wallOf(now), Instance: c.instance}
	}
	return limit, done, true
}

// isAhead reports whether a version was given that is too far ahead now.
func (c *clock) isAhead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.last.Time()
	return last.After(c.now().Add(c.skew)) && last.After(c.limit()) // peers' clocks only ever move the limit up
}
