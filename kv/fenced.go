package kv

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Fenced returns a client whose every write carries guards: CAS, Delete,
// CASGuarded, DeleteGuarded and SwapVersion succeed only while every guard holds
// in the same atomic step, and fail otherwise with [ErrFenced] and nothing
// written. So code that knows nothing of guards runs under a fence unchanged,
// such as that of a lock or of a leader, see package coordination.
//
// Reads and watches are those of c: they go on when a guard is broken. A guard
// that is broken never holds again, so a fenced client that got ErrFenced once
// can write nothing any more.
//
// The keys of guards are c's. What is made of the fenced client, by [Prefix],
// [Typed], [Raw], [WithCodec] and further Fenced, is fenced too. Its [LimitsOf]
// say what is left: the size of guarded values, and fewer guards. Closing it
// closes c.
//
// It is refused when it is made: by ErrNotSupported if c takes no guards (gossip)
// or not so many, by ErrInvalidKey, and by ErrFenced for a guard at version 0.
func Fenced(c Client, guards ...Guard) (Client, error) {
	fail := func(err error) (Client, error) { return nil, &Error{Op: "Fenced", Err: err} }
	if len(guards) == 0 {
		return fail(errors.New("a fence needs a guard"))
	}
	if _, err := Guarded(c); err != nil {
		return nil, err
	}
	most := len(guards)
	if l, err := LimitsOf(c); err == nil {
		most = l.Guards
	}
	if err := checkGuards(guards, most); err != nil {
		return fail(err)
	}
	return fence(c, slices.Clone(guards)), nil
}

type fenced struct {
	Views
	guards []Guard
}

func fence(c Client, guards []Guard) Client {
	return &fenced{Views{Forward{c}, func(view Client) Client { return fence(view, guards) }}, guards}
}

// with returns the fence and a call's own guards.
func (c *fenced) with(guards []Guard) []Guard {
	return append(slices.Clip(c.guards), guards...)
}

func (c *fenced) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	return c.Forward.CASGuarded(ctx, key, f, c.guards...)
}

func (c *fenced) Delete(ctx context.Context, key string) error {
	return c.Forward.DeleteGuarded(ctx, key, c.guards...)
}

func (c *fenced) CASGuarded(ctx context.Context, key string, f func(any) (any, bool, error), guards ...Guard) error {
	return c.Forward.CASGuarded(ctx, key, f, c.with(guards)...)
}

func (c *fenced) DeleteGuarded(ctx context.Context, key string, guards ...Guard) error {
	return c.Forward.DeleteGuarded(ctx, key, c.with(guards)...)
}

// GetGuarded refuses as many guards as a write would, though it carries no more
// than its own.
func (c *fenced) GetGuarded(ctx context.Context, key string, guards ...Guard) (any, error) {
	if err := c.room(guards); err != nil {
		return nil, &Error{Op: "GetGuarded", Key: key, Err: err}
	}
	return c.Forward.GetGuarded(ctx, key, guards...)
}

func (c *fenced) GetVersion(ctx context.Context, key string, guards ...Guard) (any, Version, error) {
	if err := c.room(guards); err != nil {
		return nil, 0, &Error{Op: "GetVersion", Key: key, Err: err}
	}
	return c.Forward.GetVersion(ctx, key, guards...)
}

func (c *fenced) room(guards []Guard) error {
	if l, err := c.Limits(); err == nil && len(guards) > l.Guards {
		return fmt.Errorf("%w: %d guards, beside those of the fence the store takes at most %d", ErrNotSupported, len(guards), l.Guards)
	}
	return nil
}

func (c *fenced) SwapVersion(ctx context.Context, key string, prev Version, value any, guards ...Guard) (Version, error) {
	return c.Forward.SwapVersion(ctx, key, prev, value, c.with(guards)...)
}

func (c *fenced) Limits() (Limits, error) {
	l, err := c.Forward.Limits()
	l.Value = l.GuardedValue
	l.Guards = max(l.Guards-len(c.guards), 0)
	return l, err
}

func (c *fenced) Supports(what Capability) error {
	if what == Guards {
		if l, err := c.Limits(); err == nil && l.Guards == 0 {
			return because(ErrNotSupported, errors.New("the fence has all the guards that the store takes"))
		}
	}
	return c.Forward.Supports(what)
}
