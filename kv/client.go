package kv

import "context"

// Client is one key-value store, whichever backend serves it. This comment is
// its specification; package conformance checks every rule by the id given
// here, and every driver and wrapper of polykv passes it.
//
// A Client is safe for concurrent use. Beyond this interface, most clients
// offer more through the package functions [Watch], [Entries], [Ping],
// [Guarded], [Fenced], [Leased], [Versioned], [Raw], [WithCodec], [LimitsOf] and
// [CodecOf]. What a client can't do it says when it is asked for, by [ErrNotSupported]. [As] finds
// what only a client inside wrappers offers.
//
// # What holds on which store
//
// Every rule holds on every store but gossip, and there all but these: G1 and C1
// hold among the clients of one node. Between nodes there is no order of
// writes. Of two that were made at the same time, values that merge (package
// memberlist has the interface, and a Map) keep both; of other values the later
// one stays, so that the earlier, though acknowledged, is lost. So there a
// counter, or any value that is replaced as a whole by several nodes, may lose
// updates; a Map with an entry for each writer doesn't. A value that merges is
// right on every store. [Linearizable] tells which kind a client's store is, and
// the configuration of package factory can require one.
//
// # Keys
//
// K1. A key is 1 to 512 bytes ([MaxKeyLen]), the prefixes of Prefix wrappers
// included, of valid UTF-8 without control characters. It does not start with
// "/" and has no empty, "." or ".." segment between slashes. Anything else
// gets [ErrInvalidKey] before any I/O. Every other key works on every backend,
// byte for byte.
//
// K2. A prefix given to List, WatchPrefix and the like is a byte prefix, not a
// folder. It may be empty, meaning everything, or end anywhere.
//
// K3. Keys that break K1 but are in the store, put there by another tool, are
// skipped and reported to the [Observer], never returned. A key with a segment
// ".polykv" ([ReservedSegment]) is polykv's own: refused with ErrInvalidKey and
// hidden from List and watches.
//
// # Availability
//
// A1. Reads, and writes proven not applied, are retried until ctx ends
// or Options.RetryTimeout has passed, then end with [ErrUnavailable] and the
// last cause. Writes of unknown outcome likewise, then [ErrIndeterminate].
// Opening a client never contacts a server; [Ping] does.
//
// # Errors
//
// Every error is an [*Error] naming operation, backend and key. It matches
// one of this package's sentinels, ctx's error or the callback's error, and
// the backend's own cause, by errors.Is and errors.As.
type Client interface {
	// List returns the full keys that begin with prefix, sorted in ascending
	// byte order, deleted ones never (L1). No key is no error: an empty slice.
	// It is linearizable unless the driver was configured for stale reads.
	// The slice is the caller's.
	List(ctx context.Context, prefix string) ([]string, error)

	// Get returns the value of key, nil with a nil error if it is absent (G1).
	//
	// After a CAS or Delete returned success, a Get that starts later, on any
	// client of the store, sees it or something newer, unless the driver was
	// configured for stale reads. The value may be shared with others: read
	// it, don't modify it (G2).
	Get(ctx context.Context, key string) (any, error)

	// Delete removes key; deleting an absent key is no error. Afterwards Get
	// is nil, List omits the key, and CAS may create it again (D1). It is
	// never applied twice: a deletion that was sent and whose outcome can't
	// be learned is [ErrIndeterminate] (C7).
	Delete(ctx context.Context, key string) error

	// CAS (compare and swap) replaces the value of key by what f makes of it.
	//
	// C1. f gets the current value, or nil if the key is absent; its own
	// private copy. What it returns as out replaces that value atomically: no
	// write by anybody, delete and re-create included, happens between the
	// value f saw and the swap. (From absent: the key is absent at the swap.)
	//
	// C2. If out and err are nil nothing is written and CAS returns nil. A
	// decision not to write, by nil or by an error, counts only if it was made
	// on a value that was current at some moment after the call began;
	// otherwise f is called again.
	//
	// C3. If out is [Remove] the key is deleted in the same atomic way.
	//
	// C4. If err is not nil and retry is false, then, once it counts under C2,
	// CAS returns err, matchable by errors.Is and errors.As. If retry is true
	// f is called again after a backoff, at most Options.MaxAttempts times;
	// then the last error is returned.
	//
	// C5. If somebody else wrote in between, f is called again with the newer
	// value, whatever it said of retry, with jittered backoff, until ctx ends
	// or Options.ContentionTimeout has passed since the first conflict
	// ([ErrConflict]). Callers in one process don't conflict with each other:
	// one write to the store carries all that wait.
	//
	// C6. If ctx ends, CAS returns promptly with ctx's error. A running f is
	// never interrupted; CAS returns right after it.
	//
	// C7. A write is never applied twice. One whose outcome is unknown
	// (timeout, broken connection) is resolved if the store can tell; else
	// CAS returns [ErrIndeterminate].
	//
	// C8. A value that can't be encoded or decoded, or is over the size limit
	// ([ErrTooLarge]), fails at once, unretried, with nothing written.
	//
	// f runs on the goroutine that called CAS, possibly many times, and should
	// have no effects besides its result. It may use the client; a CAS on the
	// same key inside f works but makes the outer call start again. A panic or
	// runtime.Goexit in f stays with its caller and writes nothing.
	CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error

	// WatchKey calls f with the current value of key, if it exists, and then
	// with its new value after each change, nil after a deletion, until f
	// returns false, ctx is done, or the client is closed.
	//
	// W1. No change after the current value is missed. W2. After the last
	// change of a key, f sees its final state; states in between may be
	// left out for a slow f, and memory is bounded by the number of distinct
	// keys. W3. A deletion is a call with nil. W4. States arrive in order,
	// none twice in a row, no older one after a newer; nil comes only after a
	// value was delivered. W5. f runs on the goroutine that called WatchKey,
	// so calls never overlap, and may use the client; when the watch ends it
	// returns promptly and leaves no goroutine. W6. It survives lost
	// connections, server restarts, leader changes, compaction and an index
	// reset. W7. A value that can't be decoded is skipped, logged and counted.
	// W8. On an invalid key or a closed client it logs and returns; see
	// [Watch] for the form that returns an error. Values may be shared: read
	// them, don't modify them (G2).
	WatchKey(ctx context.Context, key string, f func(any) bool)

	// WatchPrefix is WatchKey for every key that begins with prefix: first
	// one call for each existing key, sorted, then one for each change, nil
	// after a deletion. The rules of WatchKey hold per key.
	WatchPrefix(ctx context.Context, prefix string, f func(key string, value any) bool)

	// Close releases the client (X1). It ends running watches and CAS calls,
	// and makes later calls fail, with [ErrClosed]. It waits for polykv's own
	// goroutines but never for callbacks, so a callback may call it. It is
	// idempotent, never touches the shared data, and closes what it wraps (X2).
	// Views of one client ([Raw], [WithCodec]) are closed together.
	Close() error
}

type remove string

// Remove is what a CAS callback returns as out to delete the key (C3).
const Remove remove = "polykv: remove this key"
