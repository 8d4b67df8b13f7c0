// Package state is the replicated store of a gossip node: what the node holds
// of every key, how writes of its own and of others merge into that, and by
// which digests two nodes find out where they differ. It does no I/O and
// starts no goroutine; whoever carries updates between nodes may lose,
// repeat and reorder them.
//
// # What a key is
//
// There is one key space. A key has a pair of versions (E, V): E is the version
// of its newest deletion, V that of the state written after it, zero if there
// is none. Of two states of a key the one with the larger E wins whole. With
// equal E, values that implement [Mergeable] merge; of any other values the
// one with the larger V wins. So a deletion wins over writes that had not seen
// it, what is written afterwards lives, and simultaneous first writers merge.
//
// A key belongs to the codec that wrote it last. A client with another codec
// reads the encoded bytes, as it would from any other store; when it writes,
// the key becomes its codec's, and the larger V wins over values of the codec
// before.
//
// # Versions
//
// A [Version] is a hybrid logical clock: a write gets a version above all that
// it replaces, and not below the wall clock. A version too far ahead of the
// clock that most of the cluster agrees on is refused, never altered: altering
// it here would make this node differ from others for good.
package state
