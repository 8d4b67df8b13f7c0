package driver

import "context"

// Store is one client's handle on a key-value store.
//
// All methods may be called concurrently. Every method returns promptly, well
// within 100 ms, once its ctx is done; ctx always carries the engine's own
// limit for one attempt. A driver does not retry (the engine does) and starts
// no goroutine that outlives Close.
//
// Byte slices that a driver returns are never modified by the engine or by
// callers, so a driver may hand out memory that it shares; slices that it
// receives must not be modified, and may be retained.
//
// Keys are opaque bytes in a Go string: 1 to 512 bytes of valid UTF-8 obeying
// rule K1 of package kv when the engine writes them. A store may hold other
// keys, put there by other tools: return them as they are, the engine skips
// and counts them.
//
// Errors are returned raw, wrapped with %w if at all; the engine adds the
// operation, backend and key. It retries every error except those that match
// one of this package's sentinels or [Permanent].
type Store interface {
	// Get reads one key. An absent key is an Entry with Version 0 and a nil
	// error. With guards in req, it returns ErrFenced unless all of them hold
	// at the same moment that key is read.
	Get(ctx context.Context, req GetRequest) (Entry, error)

	// Scan reads one page of the keys that begin with a prefix, in ascending
	// byte order. Pages that share a Snapshot show the store at one moment
	// where the store can do that; ErrSnapshotLost says that it no longer can
	// and that the scan must start again.
	Scan(ctx context.Context, req ScanRequest) (Page, error)

	// Swap replaces, creates or removes one key in one attempt, atomically,
	// if the key is at Prev.Version and every guard holds. It sends at most
	// one write and never repeats it.
	//
	// The Result's Outcome is authoritative whether or not err is nil:
	//
	//	Applied      err is nil
	//	Conflict     err is nil; nothing was written
	//	GuardBroken  err is nil; nothing was written; takes precedence over Conflict
	//	NotApplied   err says why; nothing was written, nothing will be
	//	Unknown      err says why; the write may have happened or happen later
	Swap(ctx context.Context, s Swap) (Result, error)

	// Watch runs one watch session and returns when ctx is done, when it lost
	// track of the store, or failed; it always returns a non-nil error.
	//
	// It emits the entries of req.Range that exist (read linearizably, all of
	// one revision where the store can, in ascending key order) as Put events,
	// then one Synced event, then every later Put and Delete in the order of
	// the store, with no gap between the snapshot and the changes. Changes of
	// one key may be conflated to the newest. A driver that can only read the
	// whole range again emits Restart and then a complete new snapshot up to
	// Synced; the engine works out what changed and what was deleted.
	//
	// The engine restarts a session that returned, with backoff, and compares
	// the new snapshot with what it had: a driver never needs to remember
	// anything across sessions. One that can go on from where an earlier
	// session was says so by positions, see WatchRequest. emit never blocks on
	// the consumer and never uses the store, so a driver may call it under its
	// own locks; it may be called from one goroutine at a time only, and not
	// after Watch returned.
	Watch(ctx context.Context, req WatchRequest, emit func(Event)) error

	// Limits tells the sizes the store accepts. It does no I/O.
	Limits() Limits

	// Close releases this handle and everything it started, never the shared
	// data. The engine calls it once, after every other call returned.
	Close() error
}

// Version identifies one state of one key. Zero means that the key is absent.
// Versions are compared for equality only: a restored snapshot may lower them.
type Version uint64

// Entry is one key as the store had it at some moment.
type Entry struct {
	Key     string
	Value   []byte  // nil if the key is absent, or if only keys were asked for
	Version Version // 0: the key is absent

	// Object is what a ValueStore has in place of Value; nil if the key is
	// absent, and from every other store.
	Object any

	// Meta is the driver's own word about this state, for example etcd's
	// per-key write counter, which Resolver may need. The engine only hands
	// it back.
	Meta any

	// Generation identifies the store's history. It changes when the store
	// was replaced or set back (its cluster id is another, its index fell),
	// after which versions seen before mean nothing. A store to which that
	// can't happen leaves it 0.
	Generation uint64
}

// Exists reports whether the key was present.
func (e Entry) Exists() bool { return e.Version != 0 }

// Event tells that the key is in this state now.
func (e Entry) Event() Event {
	if !e.Exists() {
		return Event{Type: Delete, Entry: e}
	}
	return Event{Type: Put, Entry: e}
}

// Guard is a condition on another key: an operation that carries it holds only
// while Key is at exactly Version, judged in the same atomic step. Version is
// never 0: absence is no valid guard.
//
// An operation may carry several, at most Limits.Guards. It holds only while all
// of them do. Their order means nothing, a key may occur more than once, and it
// may be the key that the operation is about.
type Guard struct {
	Key     string
	Version Version
}

// GetRequest asks for one key.
type GetRequest struct {
	Key    string
	Guards []Guard // all must hold; none: no condition

	// AllowStale lets the driver use the weaker, cheaper consistency it was
	// configured for. False means linearizable, always.
	AllowStale bool
}

// ScanRequest asks for one page of a listing.
type ScanRequest struct {
	Prefix string // a byte prefix; empty means every key
	After  string // only keys greater than this one; empty on the first page
	Limit  int    // at most so many entries, if the store can page; 0: the driver's choice

	KeysOnly   bool // leave the values out if that is cheaper, and versions only if they are not known without
	Bare       bool // with KeysOnly: nothing but keys is wanted, so they may come as Page.Keys
	AllowStale bool // as in GetRequest

	// Snapshot is that of the page before, nil on the first page.
	Snapshot any
}

// Page is one page of a listing.
type Page struct {
	Entries    []Entry  // ascending by key; each belongs to the engine
	Keys       []string // in place of Entries, if the request is Bare and that costs less
	More       bool     // there may be entries after the last one
	Snapshot   any      // handed back for the next page
	Generation uint64   // as in Entry
}

// Swap is one conditional write.
type Swap struct {
	// Prev is the entry the writer saw. Prev.Version 0: the key must be
	// absent. Prev may come from an earlier Swap's Result, in which case
	// Prev.Value is the value that swap wrote.
	Prev Entry

	Key    string
	Value  []byte  // what to write; may be empty
	Object any     // to a ValueStore, in place of Value; nil if Remove
	Remove bool    // remove the key instead; Prev.Version is then never 0
	Guards []Guard // all must hold; none: no condition

	// Lease attaches the key to a lease of a [Leaser]. Empty: the key is
	// attached to none afterwards, whatever it was before.
	Lease LeaseID

	// ID names this write. It is the same on every repeat of it and random
	// otherwise, never 0, so that a store that can keep it beside the value
	// can tell later whose write it was (see Resolver).
	ID uint64
}

// Outcome says what became of a Swap.
type Outcome uint8

// The outcomes of a Swap. The zero value is the safe one.
const (
	Unknown     Outcome = iota // it may have been applied, or may be later
	Applied                    // it was applied, exactly once
	Conflict                   // not applied: the key is not at Prev.Version
	GuardBroken                // not applied: a guard does not hold
	NotApplied                 // not applied, for another reason
)

var outcomes = [...]string{
	"unknown", Applied: "applied", Conflict: "conflict", GuardBroken: "guard_broken", NotApplied: "not_applied",
}

// String returns the outcome's name, for logs and metric labels.
func (o Outcome) String() string {
	if int(o) >= len(outcomes) {
		return outcomes[0]
	}
	return outcomes[o]
}

// Result is the store's answer to a Swap.
type Result struct {
	Outcome Outcome

	// Entry is set when Known is true. After Applied it is the entry as
	// written (Version, Meta and Generation suffice, as the engine knows the
	// value; Version 0 after a removal). After Conflict it is the current
	// entry, complete, if the store's answer carried it. Set Known false
	// rather than make another request.
	Entry Entry
	Known bool
}

// Range selects what a watch follows: exactly one key, or every key with a
// byte prefix.
type Range struct {
	Key      string // the key, or the prefix
	IsPrefix bool
}

// Contains reports whether key is in r.
func (r Range) Contains(key string) bool {
	if !r.IsPrefix {
		return key == r.Key
	}
	return len(key) >= len(r.Key) && key[:len(r.Key)] == r.Key
}

// WatchRequest asks for a watch session.
type WatchRequest struct {
	Range Range

	// Position is the last one that an earlier session of this range emitted
	// through this handle, nil if there was none. A session that can go on
	// from there emits Resumed first, then every change after Position in the
	// order of the store, each once, and Synced when it has emitted all that
	// the store had when the session began. A session that can't (the history
	// was compacted, the store is another) takes no notice of Position. One
	// that finds out after Resumed emits Restart.
	Position Position

	// BeforeSnapshot, unless nil, must be called before a snapshot of the
	// range is read, best when the store has just been found to answer. It
	// waits, so that clients which lost their server together don't all read
	// it at once, and returns ctx's error.
	BeforeSnapshot func(ctx context.Context) error
}

// Position is a point of a store's history, as far as a watch of one range
// goes. Positions are compared within one handle and range only.
type Position interface {
	// Covers reports whether a session at this position has emitted all that
	// happened in its range up to other.
	Covers(other Position) bool
}

// EventType tells what an Event is.
type EventType uint8

// The types of Event that a watch session emits.
const (
	Put      EventType = iota + 1 // Entry is the key's state
	Delete                        // Entry.Key is absent now
	Synced                        // the snapshot is complete, or a resumed session is in step
	Restart                       // a complete new snapshot begins here
	Resumed                       // first of all: the session goes on from the position it was given
	Progress                      // nothing happened; for the sake of Position
)

var eventTypes = [...]string{
	"invalid", Put: "put", Delete: "delete", Synced: "synced", Restart: "restart", Resumed: "resumed", Progress: "progress",
}

// String returns the type's name, for messages.
func (t EventType) String() string {
	if int(t) >= len(eventTypes) {
		return eventTypes[0]
	}
	return eventTypes[t]
}

// Event is one thing that a watch session saw.
type Event struct {
	Type  EventType
	Entry Entry

	// Position, unless nil, says that with this event the session has emitted
	// all that happened in its range up to there. It is nil in a snapshot,
	// up to Synced, and from a driver whose sessions can't be resumed.
	Position Position
}

// Limits are what a store accepts. Sizes are in bytes; 0 means no limit known.
type Limits struct {
	Key          int // of a key
	Value        int // of a value written without guards
	GuardedValue int // of a value written with guards, as many as are allowed and whatever their keys

	// Guards is how many guards an operation may carry; 0: none. The engine
	// refuses more with ErrNotSupported before it calls the store.
	Guards int
}
