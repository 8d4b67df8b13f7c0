package state

import "time"

// Mergeable is a value that merges, so that writes on different nodes all
// survive. A codec whose Decode returns one makes its keys merge; values of
// all other codecs replace each other, the last writer's wins.
//
// Package mergetest checks the laws below for a type of yours.
//
// A Mergeable that is in the store is shared and never modified: the store
// calls Clone first. Methods that only read must be safe for concurrent use.
type Mergeable interface {
	// Merge takes other, of the same type, into the receiver and returns what
	// changed in the receiver: a value that, merged into any other replica,
	// makes the same change there. The change is nil if nothing changed. It
	// may share memory with other, not with the receiver.
	//
	// With localCAS false, other is a replica's state or change. Merge must
	// then be idempotent, commutative and associative: replicas that merged
	// the same changes are equal, whatever the order and however often.
	//
	// With localCAS true, the receiver is what a CAS callback was given and
	// other is what it returned: what the receiver has and other lacks was
	// removed, and leaves a tombstone, since otherwise the next replica's state
	// would bring it back.
	Merge(other Mergeable, localCAS bool) (change Mergeable, err error)

	// MergeContent names what the value holds, for logs and status pages.
	MergeContent() []string

	// RemoveTombstones removes the tombstones older than limit, or all if
	// limit is zero. It returns how many are left and how many it removed.
	RemoveTombstones(limit time.Time) (total, removed int)

	// Clone returns a copy that shares no memory that either may modify.
	Clone() Mergeable
}

// Digester is an optional interface of a Mergeable that knows a hash of its
// content, tombstones included, without encoding itself. Equal contents, in
// whatever process, give equal digests. The other Mergeables are compared by a
// hash of their encoding without tombstones, which takes time proportional to
// their size for each change.
type Digester interface {
	Digest() Digest
}

// DeltaSource is an optional interface of a [Digester] that can tell the part
// of itself that is newer than a version, so that a replica that lacks only
// that is not sent the whole. rest is the digest of everything else.
type DeltaSource interface {
	DeltaSince(v Version) (delta Mergeable, rest Digest)
}

// Causal is an optional interface of a [Mergeable] whose parts carry versions,
// and whose removals therefore hold even when their tombstones are forgotten.
type Causal interface {
	// Without returns the receiver without the parts, tombstones included, that
	// known lacks altogether and whose versions seen reports as seen before: they
	// were removed. Known may be nil, which lacks everything. The receiver isn't
	// modified; if all of it remains, it is returned itself. Left is the number of
	// parts that remain, tombstones included.
	Without(known Mergeable, seen func(Version) bool) (remains Mergeable, left int)

	// Removed returns the versions of the parts in whose place there are
	// tombstones older than limit, as far as the receiver had them once. If limit
	// is zero, it returns those of all parts that were removed or overwritten.
	Removed(limit time.Time) []Version
}

// Stamped is an optional interface of a Mergeable whose parts carry versions
// of the store's own clock.
type Stamped interface {
	// Stamp gives v to every part that a CAS changed, after Merge with
	// localCAS was called. v is after every version in the value.
	Stamp(v Version)

	// Newest is the largest version in the value, tombstones included. The
	// store refuses a value whose newest version is too far ahead.
	Newest() Version

	// Restamp gives v to every part whose version is after limit, because the
	// clock that gave it was wrong, and reports whether there was any.
	Restamp(limit, v Version) bool
}
