package state

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/driver"
)

// Record is one state of one key: its newest deletion and what was written
// after it. It doesn't change once it is in the store. A Record of a deleted
// key is a tombstone.
type Record struct {
	key   string
	codec *registered
	e, v  Version
	over  []Version      // what it overwrote here, as far as the context doesn't cover it
	seq   driver.Version // names this state on this node; never used again

	merge Mergeable // nil if the value doesn't merge, and then
	bytes []byte    // is the value

	// bound is at least the size of the value's encoding, unless the codec
	// encodes a union in more than the sum of its parts.
	bound int

	encoding  sync.Once // of merge
	encoded   []byte
	encodeErr error

	hashing sync.Once // of merge
	hash    Digest

	decoded atomic.Pointer[decoding] // of bytes

	// The locks of the store guard these.
	digest  Digest // what the key adds to the digest of its bucket
	hidden  bool   // a peer refused this state
	pending bool   // digest is out of date

	// staged is set only while the record is not in the store, and never
	// reset afterwards in place.
	staged *staged
}

// staged is what a Record that a client wants to write needs besides.
type staged struct {
	onto    driver.Version // names the state of the store that it was made from; 0: none
	after   Version        // the newest deletion that was known then
	change  Mergeable      // what has to travel, if the value merges
	encoded []byte         // that, encoded
}

// decoding is a value as one codec decodes it.
type decoding struct {
	view  *View
	value any
}

// Key returns the key.
func (r *Record) Key() string { return r.key }

// Codec returns the id of the codec that the key belongs to.
func (r *Record) Codec() string { return r.codec.id }

// Versions returns the versions of the key's newest deletion, zero if none is
// known, and of the state written after it, zero if there is none.
func (r *Record) Versions() (e, v Version) { return r.e, r.v }

// Seq names this state on this node; no other state of the key, before or
// after, has the same.
func (r *Record) Seq() driver.Version { return r.seq }

// Mergeable returns the value if it is one, else nil. It is shared.
func (r *Record) Mergeable() Mergeable { return r.merge }

// live reports whether the key exists.
func (r *Record) live() bool { return r != nil && !r.v.IsZero() }

// versions returns those of all that r consists of, and of what it overwrote. r
// may be nil.
func (r *Record) versions() (all []Version) {
	if !r.live() {
		return nil
	}
	if c, ok := r.merge.(Causal); ok {
		c.Without(nil, func(v Version) bool { all = append(all, v); return false })
		all = append(all, c.Removed(time.Time{})...)
	}
	return append(append(all, r.v), r.over...)
}

// replacedBy returns the versions of r, a live value that doesn't merge, and of what
// it replaced, for the state of version v in its place: of each writer the newest,
// since a writer itself has no older one, and so none of v's.
func (r *Record) replacedBy(v Version) (all []Version) {
	all = []Version{r.v}
	for _, o := range r.over {
		if o.Instance != r.v.Instance {
			all = append(all, o)
		}
	}
	return slices.DeleteFunc(all, func(o Version) bool { return o.Instance == v.Instance })
}

// newest is the largest version in r.
func (r *Record) newest() Version {
	newest := r.v
	if r.e.After(newest) {
		newest = r.e
	}
	if s, ok := r.merge.(Stamped); ok && s.Newest().After(newest) {
		newest = s.Newest()
	}
	return newest
}

// Encoded returns the encoded value, which is shared. That of a Mergeable is
// encoded when it is first asked for.
func (r *Record) Encoded() ([]byte, error) {
	if r.merge == nil {
		return r.bytes, nil
	}
	r.encoding.Do(func() { r.encoded, r.encodeErr = r.codec.encode(r.merge) })
	return r.encoded, r.encodeErr
}

// update is all of r, to travel.
func (r *Record) update() (Update, error) {
	u := Update{Key: r.key, Codec: r.codec.id, E: r.e, V: r.v}
	if !r.live() {
		return u, nil
	}
	var err error
	u.Value, err = r.Encoded()
	return u, err
}

// content is the digest of the value's content, if it merges.
func (r *Record) content() Digest {
	if r.merge == nil {
		return Digest{}
	}
	if d, ok := r.merge.(Digester); ok {
		return d.Digest()
	}
	r.hashing.Do(func() {
		bare := r.merge.Clone()
		bare.RemoveTombstones(time.Time{})
		if encoded, err := r.codec.encode(bare); err == nil { // it was encoded before
			r.hash = HashOf(encoded)
		}
	})
	return r.hash
}

// keyDigest says what is compared of r with other nodes. The version of a
// value that merges is none of it: replicas that took in the same changes
// in another order may have another one.
func (r *Record) keyDigest() KeyDigest {
	return KeyDigest{Key: r.key, E: r.e, V: r.v, Digest: r.content()}
}

// weigh computes r.digest.
func (r *Record) weigh() {
	kd := r.keyDigest()
	if r.merge != nil {
		kd.V = Version{Counter: 1} // it is live; no more is compared
	}
	b := make([]byte, 0, 256)
	b = binary.AppendUvarint(b, uint64(len(r.codec.id)))
	b = append(b, r.codec.id...)
	b = binary.AppendUvarint(b, uint64(len(r.key)))
	b = append(b, r.key...)
	r.digest = HashOf(kd.Digest.Append(kd.V.Append(kd.E.Append(b))))
	r.pending = false
}

// lazy reports whether weighing r takes time proportional to its size.
func (r *Record) lazy() bool {
	if r.merge == nil {
		return false
	}
	_, ok := r.merge.(Digester)
	return !ok
}

// HashOf is the hash of one thing, to be added to a Digest. It must be the same in every
// process, and hard to steer, since keys and values may come from strangers.
func HashOf(b []byte) Digest {
	h := sha256.Sum256(b)
	return Digest{binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:16])}
}

// registered is a codec of the node.
type registered struct {
	codec codec.Codec
	id    string
	index int   // among the store's ids
	view  *View // of the codec itself

	kind atomic.Int32 // of its values, as far as one was seen
}

// The kinds of values.
const (
	unseen int32 = iota
	replacing
	merging
)

// saw notes a value that the codec decoded or is to encode.
func (c *registered) saw(value any) {
	kind := replacing
	if _, ok := value.(Mergeable); ok {
		kind = merging
	}
	if c.kind.Load() != kind {
		c.kind.Store(kind)
	}
}

// encode encodes a value.
func (c *registered) encode(value any) ([]byte, error) {
	encoded, err := c.codec.Encode(value)
	if err != nil {
		return nil, fmt.Errorf("the value can't be encoded with codec %q: %w", c.id, err)
	}
	return encoded, nil
}

// decode decodes a value.
func (c *registered) decode(encoded []byte) (any, error) {
	value, err := c.codec.Decode(encoded)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the value can't be decoded with codec %q: %w", c.id, err)
	case value == nil:
		return nil, fmt.Errorf("the value decodes to nil with codec %q", c.id)
	}
	c.saw(value)
	return value, nil
}
