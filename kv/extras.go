package kv

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/driver"
)

// Version identifies one state of one key; 0 means that it is absent.
type Version = driver.Version

// Guard is a condition on another key, see [GuardedClient].
type Guard = driver.Guard

// Range selects what a watch follows. Make one with [KeyRange] or
// [PrefixRange].
type Range = driver.Range

// Limits are the sizes a client accepts, in bytes (0 means no limit known), and
// how many guards.
type Limits = driver.Limits

// KeyRange is the range of exactly one key.
func KeyRange(key string) Range { return Range{Key: key} }

// PrefixRange is the range of every key that begins with prefix, a byte
// prefix that may be empty.
func PrefixRange(prefix string) Range { return Range{Key: prefix, IsPrefix: true} }

// Entry is one key with its value.
type Entry struct {
	Key     string
	Value   any // shared: read, don't modify
	Version Version
}

// EventType tells what an [Event] is.
type EventType uint8

// The types of Event.
const (
	// Put: Key has the new value Value.
	Put EventType = iota + 1
	// Delete: Key was deleted.
	Delete
	// Synced: everything that existed when the watch started, or when it
	// found back after an interruption, has been delivered.
	Synced
	// Interrupted: the watch lost the store for the reason Err and is trying
	// again by itself; Synced follows once it has caught up.
	Interrupted
	// Undecodable: the new value of Key can't be decoded, for the reason Err.
	Undecodable
	// Rewritten: Key was written again with the same bytes, so its state is
	// none to be told (W4), but Version is another. If Key is empty, all states
	// up to Version have been told. Only a watch whose ctx is one of
	// [WithRewrites] is told.
	Rewritten
)

var eventTypes = [...]string{
	"invalid", Put: "put", Delete: "delete", Synced: "synced", Interrupted: "interrupted", Undecodable: "undecodable", Rewritten: "rewritten",
}

// String returns the type's name in lower case.
func (t EventType) String() string {
	if int(t) >= len(eventTypes) {
		return eventTypes[0]
	}
	return eventTypes[t]
}

// Event is one event of a watch.
type Event struct {
	Type  EventType
	Key   string // of Put, Delete, Undecodable and Rewritten
	Value any    // of Put; shared: read, don't modify
	Err   error  // of Interrupted and Undecodable

	// Version is that of the state of Put, Undecodable and Rewritten; 0 if
	// the client doesn't tell.
	Version Version

	// Stored is the encoded value of Put and Undecodable, by which states are
	// told apart; shared: read, don't modify. It is nil if the client doesn't
	// tell.
	Stored []byte
}

type rewrites struct{}

// WithRewrites returns a ctx whose watches are also told of [Rewritten], and
// after their first snapshot tell everything in the order of versions, for
// those who wait for a version: when one is told, those below have been.
func WithRewrites(ctx context.Context) context.Context {
	return context.WithValue(ctx, rewrites{}, true)
}

// RewritesWanted reports whether ctx is one of [WithRewrites], for wrappers
// that leave states out.
func RewritesWanted(ctx context.Context) bool { return ctx.Value(rewrites{}) != nil }

// Watcher is the optional interface behind [Watch].
type Watcher interface {
	Watch(ctx context.Context, r Range, f func(Event) bool) error
}

// Watch is the watch beneath WatchKey and WatchPrefix, under the same rules:
// it calls f with events until f returns false, and then returns nil. It
// returns ctx's error when ctx is done, ErrClosed when the client is closed,
// and ErrInvalidKey; everything else it retries for ever, with backoff,
// telling f by Interrupted.
func Watch(ctx context.Context, c Client, r Range, f func(Event) bool) error {
	if w, ok := c.(Watcher); ok {
		return w.Watch(ctx, r, f)
	}
	return notSupported("Watch", r.Key)
}

// EntryReader is the optional interface behind [Entries].
type EntryReader interface {
	Entries(ctx context.Context, prefix string) iter.Seq2[Entry, error]
}

// Entries iterates over every key that begins with prefix, with its value, in
// ascending order of keys, reading linearizably and a page at a time, so that
// memory doesn't grow with the prefix. Pages show one moment where the
// store can do that for long enough.
//
// A value that can't be decoded yields its Key with an error, and the
// iteration may go on. Any other error is the last thing that it yields.
// A client without this interface is listed and read key by key; versions are
// then 0.
func Entries(ctx context.Context, c Client, prefix string) iter.Seq2[Entry, error] {
	if r, ok := c.(EntryReader); ok {
		return r.Entries(ctx, prefix)
	}
	return func(yield func(Entry, error) bool) {
		keys, err := c.List(ctx, prefix)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for _, key := range keys {
			value, err := c.Get(ctx, key)
			if err == nil && value == nil {
				continue // deleted since it was listed
			}
			if !yield(Entry{Key: key, Value: value}, err) || callFailed(err) {
				return
			}
		}
	}
}

// callFailed reports whether err says that the call failed, rather than that a
// value can't be decoded.
func callFailed(err error) bool {
	return slices.ContainsFunc([]error{
		ErrClosed, ErrUnavailable, ErrPermission, ErrNotSupported, ErrInvalidKey, context.Canceled, context.DeadlineExceeded,
	}, func(sentinel error) bool { return errors.Is(err, sentinel) })
}

// Pinger is the optional interface behind [Ping].
type Pinger interface {
	Ping(ctx context.Context) error
}

// Ping makes one linearizable read and returns its error: nil means that the
// store was reached, accepted the credentials and could answer. It doesn't
// retry. Bound it by ctx.
func Ping(ctx context.Context, c Client) error {
	if p, ok := c.(Pinger); ok {
		return p.Ping(ctx)
	}
	return notSupported("Ping", "")
}

// GuardedClient is the optional interface of clients whose operations can
// depend on other keys: each holds only if every guard's key is at the guard's
// version in the same atomic step, and otherwise fails with ErrFenced, with
// nothing written. Without guards there is no condition. What these operations
// read is always linearizable.
//
// The order of guards means nothing. More of them than Limits.Guards (see
// [LimitsOf]) are refused with ErrNotSupported, before any I/O.
//
// A guard's key is relative to the client, like any other key, except that it
// may have the segment [ReservedSegment].
type GuardedClient interface {
	GetGuarded(ctx context.Context, key string, guards ...Guard) (any, error)
	CASGuarded(ctx context.Context, key string, f func(in any) (out any, retry bool, err error), guards ...Guard) error
	DeleteGuarded(ctx context.Context, key string, guards ...Guard) error
}

// Guarded returns c as a GuardedClient, or ErrNotSupported if its store takes no
// guards, as on gossip. It contacts nobody.
func Guarded(c Client) (GuardedClient, error) {
	g, ok := c.(GuardedClient)
	if !ok {
		return nil, notSupported("Guarded", "")
	}
	if err := supports(c, Guards); err != nil {
		return nil, inOp("Guarded", err)
	}
	return g, nil
}

// VersionedClient is the optional interface of clients that show versions.
// It is the single compare-and-swap beneath CAS, for protocols that decide
// by the exact version that they read.
type VersionedClient interface {
	// GetVersion reads linearizably. An absent key is nil at version 0.
	// It takes guards as [GuardedClient] does.
	GetVersion(ctx context.Context, key string, guards ...Guard) (value any, version Version, err error)

	// SwapVersion writes value, or deletes key if value is Remove, if key is
	// at exactly the version prev (0: absent), and returns the new version (0
	// after a deletion). Another version is ErrConflict. Its version is never
	// that of a write carried together with another caller's. If a store
	// doesn't tell the version and it can't be read back, the error is
	// ErrIndeterminate and says that the write was applied.
	SwapVersion(ctx context.Context, key string, prev Version, value any, guards ...Guard) (Version, error)
}

// Versioned returns c as a VersionedClient, or ErrNotSupported if its store shows
// no versions. It contacts nobody.
func Versioned(c Client) (VersionedClient, error) {
	v, ok := c.(VersionedClient)
	if !ok {
		return nil, notSupported("Versioned", "")
	}
	if err := supports(c, Versions); err != nil {
		return nil, inOp("Versioned", err)
	}
	return v, nil
}

// Capability is what a client may lack though it has the methods, because what
// it wraps, or its store, lacks it.
type Capability uint8

// The capabilities.
const (
	Guards   Capability = iota + 1 // of GuardedClient
	Versions                       // of VersionedClient
	Leases                         // of Leased
)

// Supporter is the optional interface of clients that know whether the methods
// that they have would work. [Guarded], [Versioned] and [Leased] ask it.
type Supporter interface {
	// Supports returns nil, or an error that matches ErrNotSupported and says
	// what is missing. It contacts nobody.
	Supports(what Capability) error
}

// supports asks c, or looks at its methods if it doesn't know.
func supports(c Client, what Capability) error {
	if s, ok := c.(Supporter); ok {
		return s.Supports(what)
	}
	ok := false
	switch what {
	case Guards:
		_, ok = c.(GuardedClient)
	case Versions:
		_, ok = c.(VersionedClient)
	case Leases:
		_, ok = c.(LeaseClient)
	}
	if !ok {
		return because(ErrNotSupported, errNoExtra)
	}
	return nil
}

// inOp gives err the name of an operation, unless it is an [*Error] already.
func inOp(op string, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	return &Error{Op: op, Err: err}
}

// RawViewer is the optional interface behind [Raw].
type RawViewer interface {
	Raw() (Client, error)
}

// Raw returns a view of c whose values are the stored bytes, as []byte, and
// which may read and write keys with the segment [ReservedSegment]. List,
// Entries and watches hide those from it too, unless the prefix or key asked
// for has that segment itself. The view shares c's connection, engine and
// Close.
func Raw(c Client) (Client, error) {
	if r, ok := c.(RawViewer); ok {
		return r.Raw()
	}
	return nil, notSupported("Raw", "")
}

// Limiter is the optional interface behind [LimitsOf].
type Limiter interface {
	Limits() (Limits, error)
}

// LimitsOf returns the sizes that c accepts, prefixes taken into account,
// without contacting the store.
func LimitsOf(c Client) (Limits, error) {
	if l, ok := c.(Limiter); ok {
		return l.Limits()
	}
	return Limits{}, notSupported("Limits", "")
}

// Coder is the optional interface behind [CodecOf].
type Coder interface {
	Codec() (codec.Codec, error)
}

// CodecOf returns the codec that makes c's values of the bytes that [Raw]
// shows. It is for those who work on bytes and answer with values.
func CodecOf(c Client) (codec.Codec, error) {
	if k, ok := c.(Coder); ok {
		return k.Codec()
	}
	return nil, notSupported("Codec", "")
}

var errNoExtra = errors.New("this client has no such interface")

func notSupported(op, key string) error {
	return &Error{Op: op, Key: key, Err: because(ErrNotSupported, errNoExtra)}
}
