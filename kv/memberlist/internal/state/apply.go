package state

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"unicode/utf8"

	"github.com/polykv/polykv/kv"
)

// Applied is the answer to an update.
type Applied struct {
	Outcome Outcome

	// Err says what is wrong with an update that was not accepted: Malformed,
	// Ahead or UnknownCodec.
	Err error
}

// Apply takes in an update of another node, and keeps u.Value unless u is Partial. Peer is nil, or, with
// the state of a key that came in a comparison, what the other node had seen when that
// began: what the store has of a value that merges, and the other has seen and doesn't
// have, is removed.
//
// A value whose own code panics is refused like any other that makes no sense: it
// came to every node of the cluster.
func (s *Store) Apply(u Update, peer *Context) (a Applied) {
	defer func() {
		if p := recover(); p != nil {
			a = Applied{Outcome: Malformed, Err: fmt.Errorf("key %q: the code of codec %q or its values panicked: %s", u.Key, u.Codec, describe(p))}
		}
	}()
	reg, err := s.registered(u.Codec)
	if err != nil {
		return Applied{Outcome: UnknownCodec, Err: err}
	}
	if err := check(u); err != nil {
		return Applied{Outcome: Malformed, Err: err}
	}
	incoming, err := incoming(reg, u)
	if err != nil {
		return Applied{Outcome: Malformed, Err: err}
	}
	if err := s.clock.accept(incoming.newest()); err != nil {
		return Applied{Outcome: Ahead, Err: err}
	}
	return s.take(u, incoming, peer)
}

// describe tells what a panic was about, without quoting a value that it may
// have been called with.
func describe(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("with a %T", p)
}

// check refuses what no node sends.
func check(u Update) error {
	switch {
	case u.Key == "" || len(u.Key) > kv.MaxKeyLen:
		return fmt.Errorf("a key of %d bytes; 1 to %d are allowed", len(u.Key), kv.MaxKeyLen)
	case !utf8.ValidString(u.Key):
		return errors.New("a key that is not valid UTF-8")
	case u.E.Wall > maxWall || u.V.Wall > maxWall:
		return errors.New("a version of more than 48 bits of time")
	case u.Deleted() && u.E.IsZero():
		return fmt.Errorf("key %q: neither a deletion nor a value", u.Key)
	case u.Deleted() && (len(u.Value) > 0 || u.Partial):
		return fmt.Errorf("key %q: a deletion with a value", u.Key)
	case !u.Deleted() && !u.V.After(u.E):
		return fmt.Errorf("key %q: a value that is not newer than the deletion before it", u.Key)
	}
	return nil
}

// incoming makes a record of an update.
func incoming(reg *registered, u Update) (*Record, error) {
	r := &Record{key: u.Key, codec: reg, e: u.E, v: u.V, bytes: u.Value, bound: len(u.Value)}
	if u.Deleted() {
		return r, nil
	}
	if r.bytes == nil {
		r.bytes = []byte{}
	}
	if !u.Partial && reg.kind.Load() == replacing {
		return r, nil // clients decode it
	}
	value, err := reg.decode(u.Value)
	m, ok := value.(Mergeable)
	switch {
	case ok:
		r.merge, r.bytes = m, nil
	case u.Partial && err == nil:
		return nil, fmt.Errorf("key %q: a change of a value of codec %q, whose values don't merge", u.Key, u.Codec)
	case err != nil && (u.Partial || reg.kind.Load() == merging):
		return nil, fmt.Errorf("key %q: %w", u.Key, err)
	}
	return r, nil
}

// take merges a record of another node into what is here.
func (s *Store) take(u Update, in *Record, peer *Context) Applied {
	sh := s.shard(u.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	old := sh.records[u.Key]
	if s.isPast(in.stand(), old.stand()) {
		return Applied{Outcome: Expired}
	}
	cur, kept := old, old
	take, hand := s.supersedes(cur, in, peer)
	switch {
	case hand, peer == nil && isUnsure(cur, in):
		return Applied{Outcome: Older}
	case take && !u.Partial:
		kept = nil
	default:
		cur, in = s.level(cur, in, peer)
		kept = cur
	}
	if kept.live() && in.merge != nil && !u.Partial && !s.breaks(RuleParts) { // in is all that the peer has of the key
		kept = s.without(cur, in, peer)
	}
	if in = s.unseen(cur, in); in == nil {
		return s.keep(sh, old, kept, Expired)
	}
	next, err := s.join(kept, in)
	switch {
	case err != nil:
		return Applied{Outcome: Malformed, Err: fmt.Errorf("key %q: %w", u.Key, err)}
	case next != nil:
		s.publish(sh, old, next)
		return Applied{Outcome: Changed}
	case isOlder(cur, in):
		return s.keep(sh, old, kept, Older)
	}
	return s.keep(sh, old, kept, Unchanged)
}

// supersedes decides between two states of a key, one of them deleted or both
// written after different deletions, of which one node has seen the other's:
// then its own came later, even if it doesn't look so, since it has forgotten
// the deletion in between. Cur may be nil.
func (s *Store) supersedes(cur, in *Record, peer *Context) (take, hand bool) {
	if cur == nil {
		return false, false
	}
	return s.overtakes(cur.stand(), in.stand(), peer)
}

func (s *Store) overtakes(ours, theirs KeyDigest, peer *Context) (take, hand bool) {
	if ours.E == theirs.E || ours.V == theirs.V || s.breaks(RuleSupersede) {
		return false, false
	}
	here, there := s.context.covers(theirs.latest()), peer.Covers(ours.latest())
	return there && !here, here && !there
}

// isUnsure reports whether in names a deletion that cur, which may be nil, doesn't,
// although cur was written later: by somebody who had not seen the deletion, so that
// it wins, or had forgotten it. What peers have seen tells, so a comparison decides.
func isUnsure(cur, in *Record) bool {
	return cur.live() && in.e.After(cur.e) && cur.newest().After(in.newest())
}

// level gives a state the other one's deletion if its node has seen that one, and
// has merely forgotten it: then the state was written afterwards, and the deletion
// is no reason to take the other state for the later one. Cur may be nil.
func (s *Store) level(cur, in *Record, peer *Context) (ours, theirs *Record) {
	if !cur.live() || !in.live() {
		return cur, in
	}
	a, b := s.deletions(cur.stand(), in.stand(), peer)
	return cur.after(a), in.after(b)
}

// deletions are those that two states of a key were written after, as far as
// their nodes know.
func (s *Store) deletions(ours, theirs KeyDigest, peer *Context) (a, b Version) {
	switch order := ours.E.Compare(theirs.E); {
	case s.breaks(RuleLevel):
	case order < 0 && s.context.covers(theirs.E) && ours.V.After(theirs.E):
		return theirs.E, theirs.E
	case order > 0 && peer.Covers(ours.E) && theirs.V.After(ours.E):
		return ours.E, ours.E
	}
	return ours.E, theirs.E
}

// isPast reports whether a state of a key is a deletion that is forgotten, and no
// news to who has the other state: then a deletion counts however old it is, such
// as one by a clock that is far behind.
func (s *Store) isPast(deletion, other KeyDigest) bool {
	return s.expired(deletion) && (other.V.IsZero() || !deletion.E.After(other.V))
}

// stand is what is compared of r if it doesn't merge. R may be nil.
func (r *Record) stand() KeyDigest {
	if r == nil {
		return KeyDigest{}
	}
	return KeyDigest{E: r.e, V: r.v}
}

// after is r as the state after another deletion.
func (r *Record) after(e Version) *Record {
	if r.e == e {
		return r
	}
	next := r.again()
	next.e = e
	return next
}

// latest is the version that made the state, a deletion's included.
func (k *KeyDigest) latest() Version {
	if k.V.IsZero() {
		return k.E
	}
	return k.V
}

// keep puts what is left of cur in its place, after nothing of an update was
// taken.
func (s *Store) keep(sh *shard, cur, kept *Record, outcome Outcome) Applied {
	if kept != cur {
		s.publish(sh, cur, kept)
	}
	return Applied{Outcome: outcome}
}

// isOlder reports whether in, which changed nothing, is not all of cur.
func isOlder(cur, in *Record) bool {
	return cur.e != in.e || cur.v != in.v && (cur.merge == nil || in.merge == nil)
}

// join is the least state that has all of cur, which may be nil, and in. It is
// nil if that is cur.
func (s *Store) join(cur, in *Record) (*Record, error) {
	order := 1
	if cur != nil {
		order = in.e.Compare(cur.e)
	}
	switch {
	case order < 0:
		return nil, nil
	case order > 0 || !cur.live():
		if order == 0 && !in.live() {
			return nil, nil
		}
		s.strip(in)
		return in, nil
	case !in.live():
		return nil, nil // cur was written after that deletion
	case cur.codec == in.codec && cur.merge != nil && in.merge != nil:
		return s.mergeInto(cur, in)
	case compareValues(in, cur) > 0:
		s.strip(in)
		return in, nil
	}
	return nil, nil
}

// mergeInto is join of two Mergeables.
func (s *Store) mergeInto(cur, in *Record) (*Record, error) {
	merged := cur.merge.Clone()
	change, err := merged.Merge(in.merge, false)
	if err != nil || change == nil {
		return nil, err
	}
	next := in // which is in no store yet and not needed any more
	next.merge, next.bound = merged, cur.bound+in.bound
	if cur.v.After(next.v) {
		next.v = cur.v
	}
	s.strip(next)
	if now, ok := merged.(Digester); ok {
		if before, ok := cur.merge.(Digester); ok && now.Digest() == before.Digest() {
			return nil, nil // nothing but expired tombstones came
		}
	}
	return next, nil
}

// compareValues orders two values of one key that don't merge.
func compareValues(a, b *Record) int {
	if c := cmp.Or(a.v.Compare(b.v), cmp.Compare(a.codec.id, b.codec.id)); c != 0 {
		return c
	}
	x, errA := a.Encoded()
	y, errB := b.Encoded()
	if errA != nil || errB != nil {
		return 0
	}
	return bytes.Compare(x, y)
}

// Read returns the state of a key for a peer that has it as peer says, or not at
// all if peer has only a Key: the part that the peer lacks if the value can tell (a
// change, then), else the whole. ok is false if the store has nothing that the peer
// would accept.
func (s *Store) Read(codec string, peer KeyDigest) (Update, bool) {
	reg := s.codecs[codec]
	if reg == nil {
		return Update{}, false
	}
	sh := s.shard(peer.Key)
	sh.mu.Lock()
	r := sh.records[peer.Key]
	readable := r != nil && r.codec == reg && !r.hidden
	sh.mu.Unlock()
	if !readable || s.isPast(r.stand(), peer) {
		return Update{}, false
	}
	// The versions first: the digest of a value may take as long as to encode it.
	if peer.E == r.e && peer.V == r.v && peer == r.keyDigest() {
		return Update{}, false // it has exactly this
	}
	if u, ok := r.since(peer); ok {
		return u, true
	}
	u, err := r.update()
	return u, err == nil
}

// since is the part of r that a peer lacks, if r can tell and the peer has
// exactly the rest.
func (r *Record) since(peer KeyDigest) (Update, bool) {
	source, ok := r.merge.(DeltaSource)
	if !ok || peer.E != r.e || peer.V.IsZero() {
		return Update{}, false
	}
	delta, rest := source.DeltaSince(peer.V)
	if rest != peer.Digest {
		return Update{}, false
	}
	encoded, err := r.codec.encode(delta)
	if err != nil {
		return Update{}, false
	}
	return Update{Key: r.key, Codec: r.codec.id, E: r.e, V: r.v, Value: encoded, Partial: true}, true
}
