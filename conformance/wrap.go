package conformance

import (
	"context"
	"iter"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// Wrapper is a way to wrap clients, for [Harness.Wrapped].
type Wrapper struct {
	Name string

	// Wrap returns the wrapper of a client, with the duty to close it.
	Wrap func(kv.Client) (kv.Client, error)

	// Prefix is what the wrapper puts before keys, if it does so.
	Prefix string

	// Declare adds to the features what the wrapper takes away; may be nil.
	Declare func(*Features)
}

// Wrappers returns the wrappers of package kv, in an order in which they may be
// put around each other. The typed view is among them by a client made of it.
func Wrappers() []Wrapper {
	const prefix = "team/app/"
	return []Wrapper{
		{
			Name:   "Prefix",
			Wrap:   func(c kv.Client) (kv.Client, error) { return kv.Prefix(c, prefix) },
			Prefix: prefix,
		},
		{
			Name: "Typed",
			Wrap: func(c kv.Client) (kv.Client, error) {
				return &typedClient{Forward: kv.Forward{Client: c}, typed: kv.Typed[any](c)}, nil
			},
		},
		{
			Name:    "SkipDeletes",
			Wrap:    func(c kv.Client) (kv.Client, error) { return kv.SkipDeletes(c), nil },
			Declare: func(f *Features) { f.HidesDeletes = true },
		},
	}
}

// Wrapped is h with every client wrapped.
func (h Harness) Wrapped(w Wrapper) Harness {
	if w.Declare != nil {
		w.Declare(&h.Features)
	}
	inner := h.New
	h.New = func(t T) Store {
		s := inner(t)
		s.Prefix += w.Prefix
		s.Open = w.open(s.Open)
		s.OpenElsewhere = w.open(s.OpenElsewhere)
		if open := s.OpenLine; open != nil {
			s.OpenLine = func(c codec.Codec, o kv.Options) (kv.Client, Line, error) {
				client, line, err := open(c, o)
				if err != nil {
					return nil, nil, err
				}
				client, err = w.Wrap(client)
				return client, line, err
			}
		}
		return s
	}
	return h
}

type openFunc = func(codec.Codec, kv.Options) (kv.Client, error)

func (w Wrapper) open(open openFunc) openFunc {
	if open == nil {
		return nil
	}
	return func(c codec.Codec, o kv.Options) (kv.Client, error) {
		client, err := open(c, o)
		if err != nil {
			return nil, err
		}
		return w.Wrap(client)
	}
}

// typedClient is a client whose every call with a value goes through a typed
// view of the client inside.
type typedClient struct {
	kv.Forward
	typed kv.TypedClient[any]
}

func (c *typedClient) List(ctx context.Context, prefix string) ([]string, error) {
	return c.typed.List(ctx, prefix)
}

func (c *typedClient) Get(ctx context.Context, key string) (any, error) {
	value, exists, err := c.typed.Get(ctx, key)
	if !exists {
		return nil, err
	}
	return value, err
}

func (c *typedClient) Delete(ctx context.Context, key string) error {
	return c.typed.Delete(ctx, key)
}

func (c *typedClient) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) error {
	return c.typed.Update(ctx, key, func(old any, _ bool) (any, kv.Action, error) {
		out, retry, err := f(old)
		switch {
		case err != nil && retry:
			return nil, kv.Keep, kv.Retry(err)
		case err != nil:
			return nil, kv.Keep, err
		case out == nil:
			return nil, kv.Keep, nil
		case out == kv.Remove:
			return nil, kv.Remove, nil
		}
		return out, kv.Put, nil
	})
}

func (c *typedClient) WatchKey(ctx context.Context, key string, f func(any) bool) {
	c.values(ctx, kv.KeyRange(key), func(_ string, value any) bool { return f(value) })
}

func (c *typedClient) WatchPrefix(ctx context.Context, prefix string, f func(string, any) bool) {
	c.values(ctx, kv.PrefixRange(prefix), f)
}

func (c *typedClient) values(ctx context.Context, r kv.Range, f func(string, any) bool) {
	for event, err := range c.typed.Watch(ctx, r) {
		if err != nil {
			continue // an interruption, something undecodable, or why it ends
		}
		if (event.Type == kv.Put || event.Type == kv.Delete) && !f(event.Key, event.Value) {
			return
		}
	}
}

// Watch overrides kv.Forward's. A typed watch tells no versions, so who waits for them, as Follow does, has the client
// inside.
func (c *typedClient) Watch(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
	if kv.RewritesWanted(ctx) {
		return c.Forward.Watch(ctx, r, f)
	}
	for event, err := range c.typed.Watch(ctx, r) {
		if event.Type == 0 {
			return err
		}
		if !f(kv.Event{Type: event.Type, Key: event.Key, Value: event.Value, Err: err}) {
			return nil
		}
	}
	return nil
}

// Entries overrides kv.Forward's.
func (c *typedClient) Entries(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		for e, err := range c.typed.Entries(ctx, prefix) {
			if !yield(kv.Entry(e), err) {
				return
			}
		}
	}
}
