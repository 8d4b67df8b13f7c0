package kv

import (
	"context"
	"iter"

	"github.com/polykv/polykv/codec"
)

// Forward is for wrappers to embed: it forwards Client and every optional
// interface of this package to the client inside, whose lack of one becomes
// ErrNotSupported. A wrapper overrides what it changes; nothing but [As]
// unwraps it, so it can't be bypassed unasked.
//
// A wrapper that changes keys or values must override all of them, and one that
// changes anything the two that return clients, Raw and WithCodec: their
// results are wrapped like the client itself. [Views] does that.
type Forward struct{ Client }

// Views is Forward for wrappers of which Wrap wraps the views, as the client itself is.
type Views struct {
	Forward
	Wrap func(view Client) Client
}

// Raw wraps the result of [Raw].
func (v Views) Raw() (Client, error) { return v.wrapped(v.Forward.Raw()) }

// WithCodec wraps the result of [WithCodec].
func (v Views) WithCodec(cdc codec.Codec) (Client, error) { return v.wrapped(v.Forward.WithCodec(cdc)) }

func (v Views) wrapped(view Client, err error) (Client, error) {
	if err != nil {
		return nil, err
	}
	return v.Wrap(view), nil
}

// extras are Client and the optional interfaces that all clients of this
// package have.
type extras interface {
	Client
	Watcher
	EntryReader
	Pinger
	GuardedClient
	VersionedClient
	RawViewer
	Limiter
	Coder
	Recoder
	Supporter
}

var _ interface {
	extras
	Unwrapper
	Consistent
	LeaseClient
} = Forward{}

// Watch forwards to [Watch].
func (w Forward) Watch(ctx context.Context, r Range, f func(Event) bool) error {
	return Watch(ctx, w.Client, r, f)
}

// Entries forwards to [Entries].
func (w Forward) Entries(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return Entries(ctx, w.Client, prefix)
}

// Ping forwards to [Ping].
func (w Forward) Ping(ctx context.Context) error { return Ping(ctx, w.Client) }

// GetGuarded forwards to the [GuardedClient] inside.
func (w Forward) GetGuarded(ctx context.Context, key string, guards ...Guard) (any, error) {
	g, ok := w.Client.(GuardedClient)
	if !ok {
		return nil, notSupported("GetGuarded", key)
	}
	return g.GetGuarded(ctx, key, guards...)
}

// CASGuarded forwards to the [GuardedClient] inside.
func (w Forward) CASGuarded(ctx context.Context, key string, f func(any) (any, bool, error), guards ...Guard) error {
	g, ok := w.Client.(GuardedClient)
	if !ok {
		return notSupported("CASGuarded", key)
	}
	return g.CASGuarded(ctx, key, f, guards...)
}

// DeleteGuarded forwards to the [GuardedClient] inside.
func (w Forward) DeleteGuarded(ctx context.Context, key string, guards ...Guard) error {
	g, ok := w.Client.(GuardedClient)
	if !ok {
		return notSupported("DeleteGuarded", key)
	}
	return g.DeleteGuarded(ctx, key, guards...)
}

// GetVersion forwards to the [VersionedClient] inside.
func (w Forward) GetVersion(ctx context.Context, key string, guards ...Guard) (any, Version, error) {
	v, ok := w.Client.(VersionedClient)
	if !ok {
		return nil, 0, notSupported("GetVersion", key)
	}
	return v.GetVersion(ctx, key, guards...)
}

// SwapVersion forwards to the [VersionedClient] inside.
func (w Forward) SwapVersion(ctx context.Context, key string, prev Version, value any, guards ...Guard) (Version, error) {
	v, ok := w.Client.(VersionedClient)
	if !ok {
		return 0, notSupported("SwapVersion", key)
	}
	return v.SwapVersion(ctx, key, prev, value, guards...)
}

// Raw forwards to [Raw].
func (w Forward) Raw() (Client, error) { return Raw(w.Client) }

// Limits forwards to [LimitsOf].
func (w Forward) Limits() (Limits, error) { return LimitsOf(w.Client) }

// Codec forwards to [CodecOf].
func (w Forward) Codec() (codec.Codec, error) { return CodecOf(w.Client) }

// WithCodec forwards to [WithCodec].
func (w Forward) WithCodec(cdc codec.Codec) (Client, error) { return WithCodec(w.Client, cdc) }

// Unwrap returns the client inside, for [As].
func (w Forward) Unwrap() Client { return w.Client }

// Linearizable forwards to [Linearizable].
func (w Forward) Linearizable() bool { return Linearizable(w.Client) }

// Lessor forwards to the [LeaseClient] inside.
func (w Forward) Lessor() (*Lessor, error) {
	l, ok := w.Client.(LeaseClient)
	if !ok {
		return nil, notSupported("Leased", "")
	}
	return l.Lessor()
}

// Supports tells what the client inside supports.
func (w Forward) Supports(what Capability) error { return supports(w.Client, what) }
