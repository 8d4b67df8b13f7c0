package driver

import (
	"context"
	"time"
)

// Resolver is an optional interface of a Store that can tell more about an
// Unknown swap than its version alone.
//
// The engine calls Resolve after a Swap was Unknown, with the entry that a
// linearizable read found afterwards, and only if that entry is not at
// s.Prev.Version. Resolve does no I/O. It returns
//
//   - Applied if now is provably what s wrote (the store keeps s.ID, say);
//   - NotApplied if s provably was not applied and can't be any more (etcd:
//     exactly one write happened since Prev and it wrote other bytes);
//   - Unknown otherwise.
type Resolver interface {
	Resolve(s Swap, now Entry) Outcome
}

// NonBlocking is an optional interface of a Store whose methods never wait
// for anything outside this process (Watch excepted). The engine then spends
// no timer and no derived context on a call.
type NonBlocking interface {
	NonBlocking() bool
}

// ValueStore is an optional interface of a Store that keeps values decoded,
// because decoding them at each read would cost too much, or because they are
// more to it than bytes. Its entries carry an Object instead of a Value, of a
// kind of its own, and so do the swaps that it is given. An object never
// changes.
type ValueStore interface {
	// Values returns what turns this handle's objects into values and back.
	Values() Values
}

// Values turns objects into values and back. It takes the place of the client's
// codec. Its methods may be called concurrently and do no I/O.
type Values interface {
	// Value returns the value of an entry's object: one that may be shared
	// with others, or, if private, a copy that may be modified.
	Value(object any, private bool) (any, error)

	// Object makes an object of a value that shall replace prev, the object
	// that the value's writer saw, nil if the key was absent. A nil value
	// stands for the removal of prev. prev may also be an earlier result of
	// Object that is not stored, or not yet: the writes of several callers
	// are made one upon the other and stored as one. An encoding of
	// more than limit bytes is ErrTooLarge; 0 means no limit. The value stays
	// the caller's.
	Object(key string, prev, value any, limit int) (any, error)

	// Sum returns a hash of a value: objects with equal sums are the same state.
	Sum(object any) [2]uint64

	// Raw returns Values for the same objects, of which each value is its
	// encoding as []byte.
	Raw() Values
}

// Recoder is an optional interface of a [ValueStore] that can show its values by
// more codecs than the handle's own.
type Recoder interface {
	// ValuesOf returns Values for the same objects that go through c. An
	// error says why the store can't have values of that codec, and names it.
	ValuesOf(c Codec) (Values, error)
}

// Codec is what [Recoder] needs to know of a codec. That of package codec is
// one.
type Codec interface {
	Encode(value any) ([]byte, error)
	Decode(data []byte) (any, error)
	CodecID() string
}

// Deliberate is an optional interface of a Store whose servers take their time
// to refuse a request that they can't serve, such as Consul's, which hold it
// while they look for a leader. Who gives up before loses the refusal, and with
// it the certainty that nothing was written.
type Deliberate interface {
	// AttemptTimeout is how long an attempt may take where the client's
	// options don't say it; 0 if the driver doesn't either. It does no I/O.
	AttemptTimeout() time.Duration
}

// Locator is an optional interface of a Store whose watch sessions emit
// positions and that can tell cheaply whether one of them is in step.
type Locator interface {
	// Locate reads, linearizably, where the store stands in r now: a session
	// of r is in step with that once its position covers the answer. from is
	// where the session has come to, nil if nowhere, and may save work. It
	// costs far less than a snapshot of r.
	Locate(ctx context.Context, r Range, from Position) (Position, error)
}

// WatchComparer is an optional interface of a Store whose watch sessions compare
// by themselves, now and then, all that they told with all that the store has.
// Of others the engine reads the keys and versions of a watched range from time
// to time, if pages of keys alone have versions.
type WatchComparer interface {
	ComparesWatches() bool
}

// Epocher is an optional interface of a Store that notices when what it was
// told before may hold no more, though no Generation says so: a server that
// lost its disk and was restored from a backup has the same history up to a
// point, and gives versions again that it gave before.
//
// The engine remembers entries, as the base of the next swap, only within one
// epoch. Of an earlier one they are read again first, by a read that begins in
// the new epoch.
type Epocher interface {
	// Epoch changes whenever a connection to the store was lost, and when an
	// answer shows another member, leader or term than the one before. A value
	// never returns. An answer belongs to the epoch in which its request began,
	// so a change counts before the first answer of the new epoch is returned.
	// Epoch may be called at any time and concurrently, does no I/O, doesn't
	// wait, and costs no more than an atomic load.
	Epoch() uint64
}
