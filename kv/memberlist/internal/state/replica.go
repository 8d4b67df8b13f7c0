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
	//
	// ApplyFrom does the same with the state of a key that came in a comparison
	// with a peer. Peer is what the peer had seen when the comparison began: what
	// the store has of a value that merges, and the peer has seen and doesn't
	// have, is removed.
	Apply(u Update) Applied
	ApplyFrom(u Update, peer *Context) Applied

	// Claim returns a version up to which all writes of this node are in the
	// store, for peers that find that they hold the same as the Roots that are
	// asked for afterwards. It is zero while the node's clock is wrong.
	Claim() Version

	// Context returns what this store has seen, its own writes up to a Claim
	// included; empty while the node's clock is wrong. Learn takes in the
	// Context that a peer had at some moment, and must be called only if all
	// that the peer had then has come to this store. Left notes that a writer
	// has left for good.
	Context() Context
	Learn(peer *Context)
	Left(writer uint64)

	// Codecs lists the ids of the registered codecs, sorted. Two nodes
	// compare the codecs that both have.
	Codecs() []string

	// Roots returns the digest of all keys of each registered codec, in the
	// order of Codecs. Keys that a peer refused (see Refused) are left out
	// here and below. The slice must not be modified.
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
	//
	// Peer is what the peer had seen when the comparison began. What this store
	// has, and the peer has seen and lacks, is removed at once. Drop is what the
	// peer has, and this store may have seen and lacks, for the peer's Drop.
	Compare(codec string, bucket int, theirs []KeyDigest, peer *Context) (want, give, drop []KeyDigest)

	// Drop removes states of keys, as KeyDigests say, that a peer has seen and
	// lacks. Peer is what it had seen when the comparison began.
	Drop(codec string, keys []KeyDigest, peer *Context)

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

	// Restamp gives a new version to states that were refused and are too far
	// ahead of the cluster's clock, once this node's own clock is right, and
	// returns how many. They reach OnLocal as any write does. What nobody refused
	// keeps its versions. Call it now and then, such as once a second: it costs
	// nothing as long as all is well.
	Restamp() int

	// Health says why the store's writes don't reach others, or nil.
	Health() error

	// Expire removes tombstones older than TombstoneTimeout, or than
	// PartitionTolerance while some writer wasn't heard of for that time and
	// hasn't left. Call it about once a second.
	Expire() Expiry
}

// Expiry is what Expire did.
type Expiry struct {
	Keys    int // tombstones of keys that were removed
	Parts   int // tombstones within values that were removed
	Dropped int // of Keys, those removed before their time, to stay within Config.MaxTombstoneBytes
	Left    int // tombstones of keys that are left
}
