package kv

import (
	"errors"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/driver"
)

// Recoder is the optional interface behind [WithCodec].
type Recoder interface {
	WithCodec(cdc codec.Codec) (Client, error)
}

// WithCodec returns another view of c, whose values go through cdc. It is for
// programs with values of several types, or with one type and raw bytes, in one
// store:
//
//	rings, err := factory.New(ctx, cfg, ringCodec, deps)
//	flags, err := kv.WithCodec(rings, codec.JSON[Flag]{})
//
// The view has c's prefix and wrappers, and shares its engine: the driver's
// handle, connections, watches, what is remembered of entries, and the queue of
// writers of a key. It sees the same keys, so values of different types belong
// under different keys: those of another codec are values that it can't decode.
// Of a raw view ([Raw]) it is a view like any other, to which reserved keys are
// closed.
//
// The view shares Close too, as a raw view and the wrappers do (rule X2): closing
// it, c or another view closes them all. So whoever opened the client closes it,
// and nobody else closes anything.
//
// A nil codec is an error. On gossip, where every node must know how to merge
// what it passes on, a codec that the node was not started with is refused, with
// an error that names it. A client without this interface is ErrNotSupported.
func WithCodec(c Client, cdc codec.Codec) (Client, error) {
	if cdc == nil {
		return nil, &Error{Op: "WithCodec", Err: errors.New("the codec must not be nil")}
	}
	if r, ok := c.(Recoder); ok {
		return r.WithCodec(cdc)
	}
	return nil, notSupported("WithCodec", "")
}

// WithCodec implements Recoder.
func (c *client) WithCodec(cdc codec.Codec) (Client, error) {
	view := &client{engine: c.engine, codec: cdc}
	if c.values == nil {
		return view, nil
	}
	recoder, ok := c.engine.store.(driver.Recoder)
	if !ok {
		return nil, c.fail("WithCodec", "", because(ErrNotSupported, errors.New("the driver keeps values decoded, by one codec")))
	}
	var err error
	if view.values, err = recoder.ValuesOf(cdc); err != nil {
		return nil, c.fail("WithCodec", "", err)
	}
	return view, nil
}

// Unwrapper is the optional interface by which [As] looks inside a wrapper.
type Unwrapper interface {
	// Unwrap returns the client inside.
	Unwrap() Client
}

// As finds the first client in c's tree that has the type T, which may be an
// interface, as errors.As does with errors: c itself, what it wraps, and so on,
// of a client over several stores one after the other. It is how a program gets
// at what only the client inside offers:
//
//	if m, ok := kv.As[*multi.Client](c); ok {
//		err = m.SetPrimary(ctx, "new")
//	}
//
// What is found bypasses the wrappers around it: its keys are not prefixed and
// its calls not measured. The optional interfaces of this package are not found
// inside a wrapper, because every wrapper has them all itself; use the
// functions for them, such as [Guarded], which say whether they work.
func As[T any](c Client) (T, bool) {
	for c != nil {
		if t, ok := c.(T); ok {
			return t, true
		}
		switch w := c.(type) {
		case Unwrapper:
			c = w.Unwrap()
		case interface{ Unwrap() []Client }:
			for _, inside := range w.Unwrap() {
				if t, ok := As[T](inside); ok {
					return t, true
				}
			}
			c = nil
		default:
			c = nil
		}
	}
	var none T
	return none, false
}

// Consistent is the optional interface behind [Linearizable].
type Consistent interface {
	Linearizable() bool
}

// Linearizable reports whether c's store is one for all its clients: a write that
// was acknowledged is seen by every later CAS and by every later Get, wherever
// they are made (rules G1 and C1).
//
// It is false on gossip, where these rules hold among the clients of one node:
// between nodes values that merge converge, and of others the later write stays,
// so that an acknowledged update may be lost to one made elsewhere at the same
// time. It is false too for a client over two stores one of which is spread by
// gossip. Of every other client it is true.
//
// It says nothing of Get and List of a driver that was configured for stale
// reads, nor of the moment at which processes switch between two stores without
// coordination.
func Linearizable(c Client) bool {
	if l, ok := c.(Consistent); ok {
		return l.Linearizable()
	}
	return true
}
