package kv

import (
	"cmp"
	"context"
	"fmt"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/driver"
)

// New makes a Client of a driver's handle and a codec. The client owns store
// and closes it. opts may be nil. Nothing is contacted.
//
// New panics if store or cdc is nil or opts.Validate fails, which are mistakes
// in the program; check options that come from outside beforehand.
func New(store driver.Store, cdc codec.Codec, opts *Options) Client {
	if store == nil || cdc == nil {
		panic("kv.New: the store and the codec must not be nil")
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	if err := o.Validate(); err != nil {
		panic("kv.New: " + err.Error())
	}
	if d, ok := store.(driver.Deliberate); ok {
		o.AttemptTimeout = cmp.Or(o.AttemptTimeout, d.AttemptTimeout())
	}
	e := newEngine(store, o.withDefaults())
	return &client{engine: e, codec: cdc, values: e.values}
}

// client is a view of an engine: a codec, and whether reserved keys are open.
type client struct {
	engine *engine
	codec  codec.Codec
	values driver.Values // in place of the codec, unless nil
	raw    bool
}

var _ extras = (*client)(nil)

// Raw implements RawViewer.
func (c *client) Raw() (Client, error) {
	raw := &client{engine: c.engine, codec: codec.Bytes{}, raw: true}
	if c.values != nil {
		raw.values = c.values.Raw()
	}
	return raw, nil
}

// Codec implements Coder.
func (c *client) Codec() (codec.Codec, error) { return c.codec, nil }

// Supports implements Supporter.
func (c *client) Supports(what Capability) error {
	switch {
	case what == Guards && c.engine.limits.Guards == 0:
		return errNoGuards
	case what == Leases && c.engine.leaser() == nil:
		return errNoLeases
	}
	return nil
}

var errNoGuards = fmt.Errorf("%w: the store takes no guards", ErrNotSupported)

// Limits implements Limiter.
func (c *client) Limits() (Limits, error) { return c.engine.limits, nil }

// Close implements Client.
func (c *client) Close() error {
	if err := c.engine.close(); err != nil {
		return c.fail("Close", "", err)
	}
	return nil
}

// fail gives err the client's context.
func (c *client) fail(op, key string, err error) error {
	return &Error{Op: op, Backend: c.engine.opts.Backend, Key: key, Err: err}
}

// admit is what every operation on a key checks before anything else.
func (c *client) admit(ctx context.Context, key string, guards []Guard) error {
	if c.engine.ctx.Err() != nil {
		return ErrClosed
	}
	if !isPlain(key) {
		check := CheckKey
		if c.raw {
			check = checkForm
		}
		if err := check(key); err != nil {
			return err
		}
	}
	if len(guards) > 0 {
		if err := checkGuards(guards, c.engine.limits.Guards); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctxError(ctx, nil)
	}
	return nil
}

// checkGuards refuses guards that make no sense, or that a store which takes
// only so many would not judge.
func checkGuards(guards []Guard, most int) error {
	switch {
	case most == 0:
		return errNoGuards
	case len(guards) > most:
		return fmt.Errorf("%w: %d guards, the store takes at most %d", ErrNotSupported, len(guards), most)
	}
	for _, g := range guards {
		if err := checkForm(g.Key); err != nil {
			return fmt.Errorf("guard: %w", err)
		}
		if g.Version == 0 {
			return fmt.Errorf("guard on %q: %w: version 0: absence is no valid guard", g.Key, ErrFenced)
		}
	}
	return nil
}

// visible reports whether a key found in the store, in a listing or watch of
// wanted, is shown to this client's user (K3).
func (c *client) visible(ctx context.Context, wanted, key string) bool {
	if isPlain(key) {
		return true
	}
	if checkForm(key) != nil {
		c.engine.opts.Observer.Skipped(ctx, key)
		return false
	}
	return !Reserved(key) || c.raw && Reserved(wanted)
}
