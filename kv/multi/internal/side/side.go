package side

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// Side is one of the two stores of a multi-client or a migration, seen as
// bytes. It is safe for concurrent use and needs no closing: it shares the
// client that it was made of.
type Side struct {
	name   string
	client kv.Client   // raw, or whatever was given if that has no raw view
	codec  codec.Codec // nil: client is raw
}

// New returns the side of c, which must have a name to be told by. If c has no
// raw view (kv.Raw), its values are made bytes and back by cdc, which must
// then be the codec of c; such a side has no record and no guards. Nothing
// is contacted.
func New(name string, c kv.Client, cdc codec.Codec) (*Side, error) {
	if name == "" {
		return nil, errors.New("a store needs a name")
	}
	if c == nil {
		return nil, fmt.Errorf("store %q: there is no client", name)
	}
	raw, err := kv.Raw(c)
	switch {
	case err == nil:
		return &Side{name: name, client: raw}, nil
	case !errors.Is(err, kv.ErrNotSupported):
		return nil, fmt.Errorf("store %q: %w", name, err)
	case cdc == nil:
		return nil, fmt.Errorf("store %q: its client shows no stored bytes, so a codec must be given, the one that the client was made with: %w", name, err)
	}
	return &Side{name: name, client: c, codec: cdc}, nil
}

// Name returns the name given to New.
func (s *Side) Name() string { return s.name }

// Limits are the sizes that the store accepts, see kv.LimitsOf. A client that
// doesn't tell them has none.
func (s *Side) Limits() kv.Limits {
	l, err := kv.LimitsOf(s.client)
	if err != nil {
		return kv.Limits{}
	}
	return l
}

// Ping makes one request, see kv.Ping. A client without Ping is no error.
func (s *Side) Ping(ctx context.Context) error {
	if err := kv.Ping(ctx, s.client); err != nil && !errors.Is(err, kv.ErrNotSupported) {
		return s.wrap("reach", err)
	}
	return nil
}

// probeKey is never written.
const probeKey = kv.ReservedSegment + "/probe"

// HasGuards asks the store whether it can guard operations, which a record and
// thus a coordinated migration needs. An error says that it didn't answer.
func (s *Side) HasGuards(ctx context.Context) (bool, error) {
	if s.codec != nil {
		return false, nil
	}
	_, _, err := s.Get(ctx, probeKey, []kv.Guard{{Key: probeKey, Version: 1}})
	switch {
	case errors.Is(err, kv.ErrFenced):
		return s.hasVersions(ctx)
	case errors.Is(err, kv.ErrNotSupported):
		err = nil
	} // without an error a guard that can't hold held: it was ignored
	return false, err
}

func (s *Side) hasVersions(ctx context.Context) (bool, error) {
	v, err := s.versioned()
	if err == nil {
		_, _, err = v.GetVersion(ctx, probeKey)
	}
	if errors.Is(err, kv.ErrNotSupported) {
		return false, nil
	}
	return err == nil, err
}

// errNoRecord explains why a side can't take part in a coordinated migration.
var errNoRecord = fmt.Errorf("%w: it has no guards, which a coordinated migration needs", kv.ErrNotSupported)

func (s *Side) versioned() (kv.VersionedClient, error) {
	if s.codec != nil {
		return nil, s.wrap("read the record of", errNoRecord)
	}
	v, err := kv.Versioned(s.client)
	if err != nil {
		return nil, s.wrap("read the record of", errNoRecord)
	}
	return v, nil
}

// wrap says which store err is about.
func (s *Side) wrap(what string, err error) error {
	return fmt.Errorf("%s store %q: %w", what, s.name, err)
}

// encode turns a value of s's client into bytes; nil means that the key is
// absent.
func (s *Side) encode(value any) (data []byte, exists bool, err error) {
	data, ok := value.([]byte)
	switch {
	case value == nil:
		return nil, false, nil
	case s.codec != nil:
		data, err = s.codec.Encode(value)
	case !ok:
		err = fmt.Errorf("the raw view returned a %T instead of bytes", value)
	}
	if err != nil {
		return nil, false, s.wrap("a value of", err)
	}
	return data, true, nil
}

// decode is the reverse of encode for an existing value.
func (s *Side) decode(data []byte) (any, error) {
	if s.codec == nil {
		return data, nil
	}
	value, err := s.codec.Decode(data)
	if err != nil {
		return nil, s.wrap("a value for", err)
	}
	return value, nil
}

// Get reads key linearizably, under guards if there are any. The bytes are
// shared: read, don't modify.
func (s *Side) Get(ctx context.Context, key string, guards []kv.Guard) (value []byte, exists bool, err error) {
	if s.codec != nil {
		if len(guards) > 0 {
			return nil, false, s.wrap("a guarded read of", errNoRecord)
		}
		return s.getByCAS(ctx, key)
	}
	var v any
	g, err := kv.Guarded(s.client)
	if err == nil {
		v, err = g.GetGuarded(ctx, key, guards...)
	}
	switch {
	case err == nil:
		return s.encode(v)
	case len(guards) == 0 && errors.Is(err, kv.ErrNotSupported):
		return s.getByCAS(ctx, key)
	}
	return nil, false, err
}

// getByCAS reads by deciding not to write. A client's own Get may be stale; what
// such a decision rests on is not (C2).
func (s *Side) getByCAS(ctx context.Context, key string) (value []byte, exists bool, err error) {
	err = s.CAS(ctx, key, nil, func(now []byte, there bool) ([]byte, kv.Action, error) {
		value, exists = now, there
		return nil, kv.Keep, nil
	})
	return value, exists, err
}

// CAS is kv.Client's CAS on bytes, under guards if there are any: f says to
// write out (kv.Put), to delete the key (kv.Remove) or to leave it (kv.Keep).
// An error of f ends the call.
func (s *Side) CAS(ctx context.Context, key string, guards []kv.Guard, f func(in []byte, exists bool) (out []byte, do kv.Action, err error)) error {
	callback := func(in any) (any, bool, error) {
		out, err := s.decide(in, f)
		return out, false, err
	}
	if len(guards) == 0 {
		return s.client.CAS(ctx, key, callback)
	}
	if s.codec != nil {
		return s.wrap("a guarded write to", errNoRecord)
	}
	g, err := kv.Guarded(s.client)
	if err != nil {
		return err
	}
	return g.CASGuarded(ctx, key, callback, guards...)
}

// decide has f decide on in, a value of s's client.
func (s *Side) decide(in any, f func(in []byte, exists bool) (out []byte, do kv.Action, err error)) (any, error) {
	data, exists, err := s.encode(in)
	if err != nil {
		return nil, err
	}
	switch out, do, err := f(data, exists); {
	case err == nil && do == kv.Put:
		return s.decode(out)
	case err == nil && do == kv.Remove:
		return kv.Remove, nil
	default:
		return nil, err
	}
}

// Delete removes key, under guards if there are any.
func (s *Side) Delete(ctx context.Context, key string, guards []kv.Guard) error {
	if len(guards) == 0 {
		return s.client.Delete(ctx, key)
	}
	return s.CAS(ctx, key, guards, func([]byte, bool) ([]byte, kv.Action, error) { return nil, kv.Remove, nil })
}

// Entry is one key with its stored bytes.
type Entry struct {
	Key   string
	Value []byte // shared: read, don't modify
}

// Entries iterates over the keys that begin with prefix, without reserved ones
// unless prefix is reserved itself, ascending, a page at a time,
// linearizably. A value that can't be read yields its Key with an error, and
// the iteration may go on; any other error is the last thing it yields.
func (s *Side) Entries(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for e, err := range kv.Entries(ctx, s.client, prefix) {
			entry := Entry{Key: e.Key}
			if err == nil {
				entry.Value, _, err = s.encode(e.Value)
			}
			if !yield(entry, err) {
				return
			}
		}
	}
}

// Count returns the number of keys that begin with prefix. It reads keys only.
func (s *Side) Count(ctx context.Context, prefix string) (int, error) {
	keys, err := s.client.List(ctx, prefix)
	return len(keys), err
}
