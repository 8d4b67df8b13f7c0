package kv

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/polykv/polykv/codec"
)

// Prefix returns a client that sees only the keys of c that begin with prefix,
// under their names without it. The prefix is empty, in which case Prefix
// returns c itself, or obeys [CheckNamespace] and leaves room for a key, else
// ErrInvalidKey.
//
// A key must obey rule K1 without the prefix and with it, so the prefix counts
// towards its length; [LimitsOf] says what is left. Guards are prefixed too.
// An error that comes from c names the key as c knows it, prefix included.
//
// The client offers every optional interface that c offers, and its [Raw] view
// has the same prefix. Closing it closes c. It adds no state: several of them
// over one client are cheap, but then close only one of them or c.
func Prefix(c Client, prefix string) (Client, error) {
	if prefix == "" {
		return c, nil
	}
	if err := CheckNamespace(prefix); err != nil {
		return nil, &Error{Op: "Prefix", Key: prefix, Err: err}
	}
	longest := MaxKeyLen
	if l, err := LimitsOf(c); err == nil && l.Key > 0 {
		longest = min(longest, l.Key)
	}
	if len(prefix) >= longest {
		err := fmt.Errorf("%w: the prefix is %d bytes long and leaves no room for a key, which is at most %d with it",
			ErrInvalidKey, len(prefix), longest)
		return nil, &Error{Op: "Prefix", Key: prefix, Err: err}
	}
	return under(c, prefix), nil
}

// prefixed holds a Views instead of embedding it: an optional interface that
// is added there later is then refused here until it translates its keys,
// and not handed through with the wrong ones.
type prefixed struct {
	in     Views
	prefix string
}

var _ interface {
	extras
	Unwrapper
	Consistent
} = (*prefixed)(nil)

func under(c Client, prefix string) Client {
	return &prefixed{in: Views{Forward{c}, func(view Client) Client { return under(view, prefix) }}, prefix: prefix}
}

// key checks a bare key and puts the prefix before it.
//
// Rule K3 is left to the client inside: the prefix ends in "/", so both forms
// have the same segments, and only the client inside knows whether it is a
// raw view, to which reserved keys are open.
func (p *prefixed) key(op, key string) (string, error) {
	err := checkForm(key)
	if n := len(p.prefix) + len(key); err == nil && n > MaxKeyLen {
		err = fmt.Errorf("%w: the key is %d bytes long with its prefix %q, at most %d are allowed",
			ErrInvalidKey, n, p.prefix, MaxKeyLen)
	}
	if err != nil {
		return "", &Error{Op: op, Key: key, Err: err}
	}
	return p.prefix + key, nil
}

// guarded is key for a key and its guards.
func (p *prefixed) guarded(op, key string, guards []Guard) (string, []Guard, error) {
	full, err := p.key(op, key)
	if err != nil || len(guards) == 0 {
		return full, nil, err
	}
	prefixed := make([]Guard, len(guards))
	for i, g := range guards {
		name, err := p.key(op, g.Key)
		if err != nil {
			return "", nil, err
		}
		prefixed[i] = Guard{Key: name, Version: g.Version}
	}
	return full, prefixed, nil
}

func (p *prefixed) bare(key string) string { return strings.TrimPrefix(key, p.prefix) }

func (p *prefixed) List(ctx context.Context, prefix string) ([]string, error) {
	keys, err := p.in.List(ctx, p.prefix+prefix)
	for i, key := range keys {
		keys[i] = p.bare(key)
	}
	return keys, err
}

func (p *prefixed) Get(ctx context.Context, key string) (any, error) {
	full, err := p.key("Get", key)
	if err != nil {
		return nil, err
	}
	return p.in.Get(ctx, full)
}

func (p *prefixed) Delete(ctx context.Context, key string) error {
	full, err := p.key("Delete", key)
	if err != nil {
		return err
	}
	return p.in.Delete(ctx, full)
}

func (p *prefixed) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	full, err := p.key("CAS", key)
	if err != nil {
		return err
	}
	return p.in.CAS(ctx, full, f)
}

// WatchKey leaves the refusal of an invalid key to the client inside, which has
// the logger: no prefix makes an invalid key valid.
func (p *prefixed) WatchKey(ctx context.Context, key string, f func(any) bool) {
	p.in.WatchKey(ctx, p.prefix+key, f)
}

func (p *prefixed) WatchPrefix(ctx context.Context, prefix string, f func(key string, value any) bool) {
	p.in.WatchPrefix(ctx, p.prefix+prefix, func(key string, value any) bool {
		return f(p.bare(key), value)
	})
}

func (p *prefixed) Close() error { return p.in.Close() }

func (p *prefixed) Watch(ctx context.Context, r Range, f func(Event) bool) error {
	if !r.IsPrefix {
		if _, err := p.key("Watch", r.Key); err != nil {
			return err
		}
	}
	r.Key = p.prefix + r.Key
	return p.in.Watch(ctx, r, func(e Event) bool {
		e.Key = p.bare(e.Key)
		return f(e)
	})
}

func (p *prefixed) Entries(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	entries := p.in.Entries(ctx, p.prefix+prefix)
	return func(yield func(Entry, error) bool) {
		for e, err := range entries {
			e.Key = p.bare(e.Key)
			if !yield(e, err) {
				return
			}
		}
	}
}

// Ping reads a key below the prefix where it can: the caller's permissions may
// end there.
func (p *prefixed) Ping(ctx context.Context) error {
	key := ReservedSegment + "/ping"
	if l, err := p.Limits(); err == nil && 0 < l.Key && l.Key < len(key) {
		key = "~" // any key will do, and one byte always fits
	}
	return p.pingKey(ctx, key)
}

func (p *prefixed) pingKey(ctx context.Context, key string) error {
	if inside, ok := p.in.Client.(keyPinger); ok {
		return inside.pingKey(ctx, p.prefix+key)
	}
	return p.in.Ping(ctx)
}

func (p *prefixed) GetGuarded(ctx context.Context, key string, guards ...Guard) (any, error) {
	full, guards, err := p.guarded("GetGuarded", key, guards)
	if err != nil {
		return nil, err
	}
	return p.in.GetGuarded(ctx, full, guards...)
}

func (p *prefixed) CASGuarded(ctx context.Context, key string, f func(any) (any, bool, error), guards ...Guard) error {
	full, guards, err := p.guarded("CASGuarded", key, guards)
	if err != nil {
		return err
	}
	return p.in.CASGuarded(ctx, full, f, guards...)
}

func (p *prefixed) DeleteGuarded(ctx context.Context, key string, guards ...Guard) error {
	full, guards, err := p.guarded("DeleteGuarded", key, guards)
	if err != nil {
		return err
	}
	return p.in.DeleteGuarded(ctx, full, guards...)
}

func (p *prefixed) GetVersion(ctx context.Context, key string, guards ...Guard) (any, Version, error) {
	full, guards, err := p.guarded("GetVersion", key, guards)
	if err != nil {
		return nil, 0, err
	}
	return p.in.GetVersion(ctx, full, guards...)
}

func (p *prefixed) SwapVersion(ctx context.Context, key string, prev Version, value any, guards ...Guard) (Version, error) {
	full, guards, err := p.guarded("SwapVersion", key, guards)
	if err != nil {
		return 0, err
	}
	return p.in.SwapVersion(ctx, full, prev, value, guards...)
}

func (p *prefixed) Raw() (Client, error) { return p.in.Raw() }

func (p *prefixed) Limits() (Limits, error) {
	l, err := p.in.Limits()
	if l.Key > 0 {
		// At least 1, because 0 would say that there is no limit.
		l.Key = max(l.Key-len(p.prefix), 1)
	}
	return l, err
}

func (p *prefixed) Codec() (codec.Codec, error) { return p.in.Codec() }

func (p *prefixed) WithCodec(cdc codec.Codec) (Client, error) { return p.in.WithCodec(cdc) }

func (p *prefixed) Unwrap() Client { return p.in.Client }

func (p *prefixed) Linearizable() bool { return p.in.Linearizable() }

// Lessor implements LeaseClient.
func (p *prefixed) Lessor() (*Lessor, error) { return p.in.Lessor() }

func (p *prefixed) Supports(what Capability) error { return p.in.Supports(what) }
