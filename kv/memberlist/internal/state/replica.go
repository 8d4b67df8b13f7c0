package state

import "time"

// Replica is the side of a [Store] that the network sees. All methods may be
// called concurrently; none waits for more than other calls of the store.
type Replica interface {
	// OnLocal sets what is called after each write by this node's clients, with
	// what has to travel: for a Mergeable only the change. Calls for one key
	// come in order. f may read the store but not write it, must not block,
	// and may keep the update. It must be set before the first write.
	OnLocal(f func(Update))

	// Apply takes in an update of another node. It keeps u.Value.
	Apply(u Update) Applied

	// Codecs lists the ids of the registered codecs, sorted. Two nodes
	// compare the codecs that both have.
	Codecs() []string

	// Roots returns the digest of all keys of each registered codec, in the
	// order of Codecs. Keys that a peer refused (see Refused) are left out
	// here and below.
	Roots() []CodecDigest

	// Buckets returns the digests of the parts of a codec's keys. The sum of
	// them is the root.
	Buckets(codec string) [Buckets]Digest

	// Keys lists the keys in one bucket, deleted ones included, in no order.
	Keys(codec string, bucket int) []KeyDigest

	// Compare compares one bucket with what Keys returned on a peer: want is
	// what the peer may have newer, give what the peer may lack. Hand the
	// items of give to Read, and those of want to the peer's Read: they
	// say what the receiver has.
	Compare(codec string, bucket int, theirs []KeyDigest) (want, give []KeyDigest)

	// Have returns what this store has of a key of that codec, for the Read of
	// a peer that has something newer; of a key that it doesn't have, only the
	// Key.
	Have(codec, key string) KeyDigest

	// Read returns the state of a key for a peer that has it as peer says, or
	// not at all if peer has only a Key: the part that the peer lacks if the
	// value can tell (a change, then), else the whole. ok is false if the
	// store has nothing that the peer would accept.
	Read(codec string, peer KeyDigest) (u Update, ok bool)

	// Observe notes the wall clock of a peer, as it was a moment ago. Forget
	// forgets that of a peer that left.
	Observe(peer string, wall time.Time)
	Forget(peer string)

	// Refused notes that a peer refused the state of a key because its
	// version is too far ahead. The state is left out of the digests
	// and Health fails until Restamp has repaired it.
	Refused(key string, e, v Version)

	// Restamp gives a new version to states that were refused or are too far
	// ahead of the cluster's clock, once this node's own clock is right, and
	// returns how many. They reach OnLocal as any write does. Call it now and
	// then, such as once a second: it costs nothing as long as all is well.
	Restamp() int

	// Health says why the store's writes don't reach others, or nil.
	Health() error

	// Expire removes tombstones older than TombstoneTimeout, or, with hold,
	// than PartitionTolerance. Hold them while a member is failed without
	// having left. Call it about once a second.
	Expire(hold bool) Expiry

	// Yield begins to give in to a peer after an isolation since then that was
	// longer than PartitionTolerance.
	Yield(since time.Time) *Yielding
}

// Expiry is what Expire did.
type Expiry struct {
	Keys    int // tombstones of keys that were removed
	Parts   int // tombstones within values that were removed
	Dropped int // of Keys, those removed before their time, to stay within Config.MaxTombstoneBytes
	Left    int // tombstones of keys that are left
}
