package multi

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// read makes one read on the route to the primary, again and again until it was
// made on a store that was primary meanwhile. A read that carries no guard of the
// record's is unguarded and confirmed afterwards.
func (v *view) read(ctx context.Context, op, key string, unguarded bool, do func(r *route) error) error {
	c := v.core
	if c.ctx.Err() != nil {
		return c.fail(op, key, kv.ErrClosed)
	}
	var w waiting
	for {
		r, err := c.selector.reading(ctx, &w)
		if err != nil {
			return c.fail(op, key, err)
		}
		err = do(r)
		if err == nil && r.guards != nil && (unguarded || r.sealed) {
			err = c.confirmed(ctx, r)
		}
		if err != nil && c.selector.again(r, err, &w) {
			continue
		}
		return c.fail(op, key, err)
	}
}

// confirmed is kv.ErrFenced unless what was read on r counts.
func (c *core) confirmed(ctx context.Context, r *route) error {
	ok, err := c.selector.confirm(ctx, r)
	switch {
	case err != nil:
		return &recordError{err}
	case !ok:
		return kv.ErrFenced
	}
	return nil
}

// Get implements kv.Client. A coordinated client's reads are never stale.
func (v *view) Get(ctx context.Context, key string) (value any, err error) {
	return v.get(ctx, "Get", key, nil, true)
}

// GetGuarded implements kv.GuardedClient; see [Client].
func (v *view) GetGuarded(ctx context.Context, key string, guards ...kv.Guard) (value any, err error) {
	return v.get(ctx, "GetGuarded", key, guards, false)
}

func (v *view) get(ctx context.Context, op, key string, guards []kv.Guard, mayBeStale bool) (value any, err error) {
	if err := v.check(key); err != nil {
		return nil, v.core.fail(op, key, err)
	}
	err = v.read(ctx, op, key, false, func(r *route) error {
		client := v.clients[r.at]
		var plain func() error
		if mayBeStale {
			plain = func() (err error) {
				value, err = client.Get(ctx, key)
				return err
			}
		}
		return v.under(ctx, r, client, guards, plain, func(client kv.GuardedClient, all []kv.Guard) (err error) {
			value, err = client.GetGuarded(ctx, key, all...)
			return err
		})
	})
	return value, err
}

// GetVersion implements kv.VersionedClient.
func (v *view) GetVersion(ctx context.Context, key string, guards ...kv.Guard) (value any, version kv.Version, err error) {
	if err := v.check(key); err != nil {
		return nil, 0, v.core.fail("GetVersion", key, err)
	}
	err = v.read(ctx, "GetVersion", key, false, func(r *route) error {
		client, all, err := v.versioned(r, guards)
		if err != nil {
			return err
		}
		if value, version, err = client.GetVersion(ctx, key, all...); err == nil {
			version, err = mark(version, r.epoch)
		}
		return v.blame(ctx, r, guards, err)
	})
	return value, version, err
}

// List implements kv.Client.
func (v *view) List(ctx context.Context, prefix string) (keys []string, err error) {
	err = v.read(ctx, "List", prefix, true, func(r *route) (err error) {
		keys, err = v.clients[r.at].List(ctx, prefix)
		return err
	})
	return keys, err
}

// entriesAtOnce is how many entries are read before it is made sure that they
// are the primary's and they are handed on.
const entriesAtOnce = 500

// entryOrError is an item of an iteration over entries.
type entryOrError struct {
	kv.Entry
	err error
}

// Entries implements kv.EntryReader. If the primary changes meanwhile, the rest
// is read from the new one.
func (v *view) Entries(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		s := &scan{view: v, prefix: prefix, yield: yield}
		err := v.read(ctx, "Entries", prefix, false, func(r *route) error { return s.run(ctx, r) })
		if err != nil && !errors.Is(err, errLeft) {
			yield(kv.Entry{}, err)
		}
	}
}

// errLeft says that the loop over an iteration was left. It ends the reading as
// any error does, which success would not: a sealed store's answer is confirmed
// and, if it doesn't count, read again.
var errLeft = errors.New("the loop was left")

// scan is one iteration over entries, on whatever routes.
type scan struct {
	*view
	prefix string
	yield  func(kv.Entry, error) bool
	batch  []entryOrError
	last   string // the last key that was handed on
}

// run reads what comes after s.last.
func (s *scan) run(ctx context.Context, r *route) error {
	s.batch = s.batch[:0]
	for e, err := range kv.Entries(ctx, s.clients[r.at], s.prefix) {
		if err != nil && e.Key == "" {
			return err
		}
		if e.Key <= s.last {
			continue
		}
		if err == nil {
			e.Version, err = mark(e.Version, r.epoch)
		}
		s.batch = append(s.batch, entryOrError{e, err})
		if len(s.batch) >= s.atOnce(r) {
			if err := s.handOn(ctx, r); err != nil {
				return err
			}
		}
	}
	return s.handOn(ctx, r)
}

// atOnce is 1 where nothing has to be confirmed.
func (s *scan) atOnce(r *route) int {
	if r.guards == nil {
		return 1
	}
	return entriesAtOnce
}

func (s *scan) handOn(ctx context.Context, r *route) error {
	if len(s.batch) == 0 {
		return nil
	}
	if r.guards != nil {
		if err := s.core.confirmed(ctx, r); err != nil {
			return err
		}
	}
	for _, e := range s.batch {
		s.last = e.Key
		if !s.yield(e.Entry, e.err) {
			return errLeft
		}
	}
	s.batch = s.batch[:0]
	return nil
}

// Ping implements kv.Pinger: the primary is asked. A coordinated
// client waits for one.
func (v *view) Ping(ctx context.Context) error {
	return v.read(ctx, "Ping", "", false, func(r *route) error {
		return kv.Ping(ctx, v.clients[r.at])
	})
}

// Limits implements kv.Limiter: those of the primary or, while there is
// none, of the first.
func (v *view) Limits() (kv.Limits, error) {
	at, guarded := v.core.selector.limits()
	l, err := kv.LimitsOf(v.clients[at])
	if guarded {
		l.Value = l.GuardedValue
		l.Guards-- // the record's
	}
	return l, err
}

// Raw implements kv.RawViewer.
func (v *view) Raw() (kv.Client, error) {
	raw := &view{core: v.core, stores: v.stores, raw: true}
	for i, s := range v.stores {
		if s.raw == nil {
			_, err := kv.Raw(s.client)
			return nil, v.core.fail("Raw", "", err)
		}
		raw.clients[i] = s.raw
	}
	return raw, nil
}

// Codec implements kv.Coder.
func (v *view) Codec() (codec.Codec, error) { return kv.CodecOf(v.clients[0]) }

// WithCodec implements kv.Recoder. Where a store is spread by gossip it is
// refused: what is mirrored there is told and merged by the codec of the values,
// and a client mirrors by one.
func (v *view) WithCodec(cdc codec.Codec) (kv.Client, error) {
	recoded := &Client{view{core: v.core}}
	for i, s := range v.stores {
		if s.gossip || s.raw == nil {
			err := fmt.Errorf("%w: codec %q: the values of store %q are mirrored by one codec, that of its client", kv.ErrNotSupported, cdc.CodecID(), s.name)
			return nil, v.core.fail("WithCodec", "", err)
		}
		client, err := kv.WithCodec(s.client, cdc)
		if err != nil {
			return nil, v.core.fail("WithCodec", "", err)
		}
		other := *s
		other.client, other.codec, other.coded = client, cdc, cdc
		recoded.stores[i], recoded.clients[i] = &other, client
	}
	return recoded, nil
}

// Unwrap returns the clients of both stores, the first one first, for kv.As.
func (v *view) Unwrap() []kv.Client { return v.clients[:] }

// Supports implements kv.Supporter: both stores must, since either may be primary. The
// guards of a caller need room beside that of the record.
func (v *view) Supports(what kv.Capability) error {
	for i, s := range v.stores {
		err := supports(v.clients[i], what)
		if err == nil && what == kv.Guards && v.core.cfg.Coordinated {
			err = room(v.clients[i], 1)
		}
		if err != nil {
			return fmt.Errorf("store %q: %w", s.name, err)
		}
	}
	return nil
}

func supports(c kv.Client, what kv.Capability) (err error) {
	switch what {
	case kv.Guards:
		_, err = kv.Guarded(c)
	case kv.Versions:
		_, err = kv.Versioned(c)
	case kv.Leases: // a lease belongs to one store, and what is attached to it vanishes in that one only
		err = fmt.Errorf("%w: leases over two stores", kv.ErrNotSupported)
	}
	return err
}

// Linearizable implements kv.Consistent: both stores must be.
func (v *view) Linearizable() bool {
	for i, s := range v.stores {
		if s.gossip || !kv.Linearizable(v.clients[i]) {
			return false
		}
	}
	return true
}

// isFenced reports whether err says that the guard of a call doesn't hold, and
// that nothing was written.
func isFenced(err error) bool {
	var theirs *callersError
	return errors.Is(err, kv.ErrFenced) && !errors.Is(err, kv.ErrIndeterminate) && !errors.As(err, &theirs)
}

// callersError marks an error that has nothing to do with the record, though it
// says "fenced": of a CAS callback, or of one of the caller's own guards.
type callersError struct{ error }

// Unwrap returns what is marked.
func (e *callersError) Unwrap() error { return e.error }

// ctxError is the error of a call whose ctx is done.
func ctxError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
