package state

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Context is a causal context: the set of writes that a node has seen, whether
// or not it still has them. It is a version vector, with dots for single
// writes beyond it.
//
// What a node has seen and doesn't have is deleted. So a deletion needs no
// tombstone to stay one: a state that comes from a node that missed the deletion,
// however long it was away, is known for what it is by its version alone.
//
// A Context says nothing of clocks. It only grows, and two of them are joined
// when two nodes are known to hold the same.
type Context struct {
	Marks map[uint64]Mark      // by writer, which is the Instance of its versions
	Dots  map[Version]struct{} // writes beyond the marks
}

// Mark is how far the writes of one writer have been seen.
type Mark struct {
	UpTo Version // every write of the writer up to this one
	Left bool    // the writer said that it leaves, so nothing more will come
}

// Rule names one of the rules that keep deletions from being undone, so that
// tests can show what comes of a store that breaks it.
type Rule string

// The rules.
const (
	RuleRefuse    Rule = "what was seen and isn't there any more is not taken"
	RuleDrop      Rule = "what a peer has seen and lacks is dropped"
	RuleParts     Rule = "the same of the parts of a value that merges"
	RuleSupersede Rule = "of two states the one wins whose node has seen the other"
	RuleLevel     Rule = "a deletion that was seen and is forgotten doesn't count against what was written after it"
	RuleHold      Rule = "tombstones are held while a writer is away"
	RuleDots      Rule = "what a tombstone removed stays known when it is forgotten"
	RuleClaim     Rule = "nothing is claimed that others can't have"
)

func (s *Store) breaks(r Rule) bool { return s.cfg.Broken == r }

// Bounds of a Context: what is beyond them is forgotten, the oldest first. Dots
// are many when much is deleted of what a writer wrote just before it was cut off.
const (
	MaxMarks = 4096
	MaxDots  = 64 << 10
)

// Covers reports whether a write has been seen. A nil Context covers nothing.
func (c *Context) Covers(v Version) bool {
	if c == nil || v.IsZero() {
		return false
	}
	if !v.After(c.Marks[v.Instance].UpTo) {
		return true
	}
	_, ok := c.Dots[v]
	return ok
}

// contexts is the Context of a store.
type contexts struct {
	claim func() Version     // see Store.Claim
	seen  func(Version) bool // Covers, under mu: one for all, since it is wanted for each change
	mu    sync.RWMutex
	Context
	forgotten atomic.Uint64 // marks and dots beyond the bounds
}

func newContexts(claim func() Version) *contexts {
	return &contexts{claim: claim, Context: Context{Marks: map[uint64]Mark{}, Dots: map[Version]struct{}{}}}
}

// covers is Covers under the lock.
func (c *contexts) covers(v Version) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.Covers(v)
}

// uncovered returns those of some versions that aren't covered.
func (c *contexts) uncovered(versions []Version) (some []Version) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, v := range versions {
		if !v.IsZero() && !c.Covers(v) {
			some = append(some, v)
		}
	}
	return some
}

// add notes single writes as seen.
func (c *contexts) add(versions []Version) {
	if len(versions) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, v := range versions {
		c.dot(v)
	}
	if len(c.Dots) > 2*MaxDots { // seldom: it looks at all of them
		c.trim()
	}
}

// learn takes in what another node has seen, which must be in this store. Who has
// seen all of a writer up to a version has seen all up to an earlier one, which
// bound returns.
func (c *contexts) learn(o *Context, bound func(Version) Version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for writer, m := range o.Marks {
		c.raise(writer, Mark{bound(m.UpTo), m.Left})
	}
	for v := range o.Dots {
		c.dot(v)
	}
	c.trim()
}

// raise sets a mark if it is news; c.mu is held.
func (c *contexts) raise(writer uint64, m Mark) {
	old := c.Marks[writer]
	if old.UpTo.After(m.UpTo) {
		m.UpTo = old.UpTo
	}
	m.Left = m.Left || old.Left
	c.Marks[writer] = m
}

// dot adds one write; c.mu is held.
func (c *contexts) dot(v Version) {
	if !v.IsZero() && !c.Covers(v) {
		c.Dots[v] = struct{}{}
	}
}

// trim drops dots that the marks cover, the node's own claim included, and what is
// beyond the bounds; c.mu is held.
func (c *contexts) trim() {
	if own := c.claim(); !own.IsZero() {
		c.raise(own.Instance, Mark{UpTo: own})
	}
	for v := range c.Dots {
		if !v.After(c.Marks[v.Instance].UpTo) {
			delete(c.Dots, v)
		}
	}
	if n := len(c.Dots) - MaxDots; n > 0 {
		c.forgotten.Add(uint64(n))
		for _, v := range slices.SortedFunc(maps.Keys(c.Dots), Version.Compare)[:n] {
			delete(c.Dots, v)
		}
	}
	if n := len(c.Marks) - MaxMarks; n > 0 {
		c.forgotten.Add(uint64(n))
		oldest := slices.SortedFunc(maps.Keys(c.Marks), func(a, b uint64) int {
			return cmp.Or(c.Marks[a].UpTo.Compare(c.Marks[b].UpTo), cmp.Compare(a, b))
		})
		for _, writer := range oldest[:n] {
			delete(c.Marks, writer)
		}
	}
}

// lags reports whether a writer may still come with what it wrote, or may have
// missed what others deleted: nothing was heard of it since before, but
// something since after, and it hasn't left.
func (c *contexts) lags(self uint64, after, before time.Time) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for writer, m := range c.Marks {
		if at := m.UpTo.Time(); writer != self && !m.Left && at.Before(before) && at.After(after) {
			return true
		}
	}
	return false
}

// Claim returns a version up to which all writes of this node are in the store,
// for peers that find that they hold the same as the Roots that are asked for
// afterwards. It is zero while the node's clock is wrong. The versions of writes that
// are being staged may be below it: Swap refuses those.
func (s *Store) Claim() Version {
	if s.hidden.Load() > 0 || s.clock.health() != nil || s.clock.isAhead() {
		return Version{}
	}
	claim := s.clock.claim()
	if s.breaks(RuleClaim) {
		claim.Wall += 2 * uint64(s.cfg.TombstoneTimeout.Milliseconds()) //nolint:gosec // in tests
	}
	return claim
}

// Context returns what this store has seen, its own writes up to a Claim included;
// empty while the node's clock is wrong.
func (s *Store) Context() Context {
	if s.Claim().IsZero() {
		return Context{}
	}
	c := s.context
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trim()
	return Context{Marks: maps.Clone(c.Marks), Dots: maps.Clone(c.Dots)}
}

// Learn takes in the Context that a peer had at some moment. It must be called only
// if all that the peer had then has come to this store.
func (s *Store) Learn(c *Context) {
	bound := s.clock.bound
	if s.breaks(RuleClaim) {
		bound = func(v Version) Version { return v }
	}
	s.context.learn(c, bound)
}

// Left notes that a writer has left for good.
func (s *Store) Left(writer uint64) {
	s.context.mu.Lock()
	defer s.context.mu.Unlock()
	s.context.raise(writer, Mark{Left: true})
}

// claimSlack is how old a claim is, in milliseconds: a write that takes longer
// from the moment that it gets its version is made again.
const claimSlack = 1000

// claim returns a version such that every write of this node up to it is in the
// store, and none will get such a version any more.
func (c *clock) claim() Version {
	now := wallOf(c.now())
	c.mu.Lock()
	defer c.mu.Unlock()
	now = max(now, c.last.Wall)
	v := Version{Wall: max(now, claimSlack) - claimSlack, Counter: 1<<16 - 1, Instance: c.instance}
	if v.After(c.last) {
		c.last = v
	}
	if v.After(c.claimed) {
		c.claimed = v
	}
	return c.claimed
}

// isClaimed reports whether a version of this node's is too old to be written.
func (c *clock) isClaimed(v Version) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return v.Instance != c.instance || !v.After(c.claimed)
}

// unseen returns in, a state of a key of which cur is what the store has and
// which may be nil, without what the store has seen before and doesn't have any
// more; nil if nothing is left. The key's shard is locked.
func (s *Store) unseen(cur, in *Record) *Record {
	if !in.live() || cur != nil && !cur.live() || s.breaks(RuleRefuse) && cur == nil || s.breaks(RuleParts) && cur != nil {
		return in // their versions decide
	}
	s.context.mu.RLock()
	defer s.context.mu.RUnlock()
	return in.without(cur, s.context.seen)
}

// without is Record.without of a state of the store. The peer may not have seen
// what the parts that go took the place of.
func (s *Store) without(r, other *Record, seen *Context) *Record {
	rest := r.without(other, seen.Covers)
	if rest != r {
		s.keepRemoved(r, time.Time{})
	}
	return rest
}

// without returns r without what other lacks although it was seen; nil if nothing
// is left. Other may be nil.
func (r *Record) without(other *Record, seen func(Version) bool) *Record {
	known := Mergeable(nil)
	if other.live() {
		if r.merge == nil || other.merge == nil || r.codec != other.codec || r.e != other.e {
			return r // by their versions
		}
		known = other.merge
	}
	causal, ok := r.merge.(Causal)
	switch {
	case !ok && known == nil && seen(r.v):
		return nil
	case !ok:
		return r
	}
	rest, left := causal.Without(known, seen)
	switch {
	case left == 0 && known == nil && seen(r.v):
		return nil
	case rest == r.merge:
		return r
	}
	next := r.again()
	next.merge = rest
	return next
}
