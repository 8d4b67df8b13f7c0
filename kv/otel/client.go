package kvotel

import (
	"context"
	"errors"
	"iter"

	"go.opentelemetry.io/otel/trace"

	"github.com/polykv/polykv/kv"
)

// Wrap returns a client that makes a span of every call of c, its [kv.Raw] and
// [kv.WithCodec] views included, and of every callback. backend names the store
// in the spans. It offers every optional interface that c offers and closes c.
func (t *Tracing) Wrap(c kv.Client, backend string) kv.Client {
	wrap := func(view kv.Client) kv.Client { return t.Wrap(view, backend) }
	return &client{Views: kv.Views{Forward: kv.Forward{Client: c}, Wrap: wrap}, tracing: t, backend: backend}
}

type client struct {
	kv.Views
	tracing *Tracing
	backend string
}

// start begins the span of a call. The function that it returns is to be deferred,
// so that the span ends also when a callback panics.
func (c *client) start(ctx context.Context, op string, r kv.Range) (context.Context, func(*error)) {
	ctx, span := c.tracing.tracer.Start(ctx, "kv."+op, trace.WithAttributes(describe(c.backend, op, r)...))
	return ctx, func(err *error) { finish(span, *err, "") }
}

type casFunc = func(in any) (out any, retry bool, err error)

// deciding makes a span of each call of a CAS callback.
func (c *client) deciding(ctx context.Context, key string, f casFunc) casFunc {
	return func(in any) (out any, retry bool, err error) {
		_, span := c.tracing.tracer.Start(ctx, "kv.CAS callback", trace.WithAttributes(keyKey.String(key)))
		decision := "panic"
		defer func() {
			span.SetAttributes(decisionKey.String(decision))
			finish(span, err, "")
		}()
		out, retry, err = f(in)
		switch {
		case err != nil && retry:
			decision = "retry"
		case err != nil:
			decision = "error"
		case out == nil:
			decision = "nothing"
		case out == kv.Remove:
			decision = "remove"
		default:
			decision = "put"
		}
		return out, retry, err
	}
}

// told makes a trace of each call of a watch's callback.
func (c *client) told(watch context.Context, key, event string, call func() bool) bool {
	_, span := c.tracing.tracer.Start(watch, "kv.Watch callback", trace.WithNewRoot(),
		trace.WithLinks(trace.LinkFromContext(watch)), trace.WithAttributes(keyKey.String(key), eventKey.String(event)))
	defer span.End()
	return call()
}

// change names what a callback is told that gets values only.
func change(value any) string {
	if value == nil {
		return "delete"
	}
	return "put"
}

func (c *client) List(ctx context.Context, prefix string) (_ []string, err error) {
	ctx, end := c.start(ctx, "List", kv.PrefixRange(prefix))
	defer end(&err)
	return c.Forward.List(ctx, prefix)
}

func (c *client) Get(ctx context.Context, key string) (_ any, err error) {
	ctx, end := c.start(ctx, "Get", kv.KeyRange(key))
	defer end(&err)
	return c.Forward.Get(ctx, key)
}

func (c *client) Delete(ctx context.Context, key string) (err error) {
	ctx, end := c.start(ctx, "Delete", kv.KeyRange(key))
	defer end(&err)
	return c.Forward.Delete(ctx, key)
}

func (c *client) CAS(ctx context.Context, key string, f func(in any) (out any, retry bool, err error)) (err error) {
	ctx, end := c.start(ctx, "CAS", kv.KeyRange(key))
	defer end(&err)
	return c.Forward.CAS(ctx, key, c.deciding(ctx, key, f))
}

func (c *client) WatchKey(ctx context.Context, key string, f func(any) bool) {
	var err error
	ctx, end := c.start(ctx, "WatchKey", kv.KeyRange(key))
	defer end(&err)
	c.Forward.WatchKey(ctx, key, func(value any) bool {
		return c.told(ctx, key, change(value), func() bool { return f(value) })
	})
}

func (c *client) WatchPrefix(ctx context.Context, prefix string, f func(key string, value any) bool) {
	var err error
	ctx, end := c.start(ctx, "WatchPrefix", kv.PrefixRange(prefix))
	defer end(&err)
	c.Forward.WatchPrefix(ctx, prefix, func(key string, value any) bool {
		return c.told(ctx, key, change(value), func() bool { return f(key, value) })
	})
}

func (c *client) Watch(ctx context.Context, r kv.Range, f func(kv.Event) bool) error {
	var failed error
	watch, end := c.start(ctx, "Watch", r)
	defer end(&failed)
	err := c.Forward.Watch(watch, r, func(ev kv.Event) bool {
		return c.told(watch, ev.Key, ev.Type.String(), func() bool { return f(ev) })
	})
	// The end of its ctx is how a watch is meant to end.
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		failed = err
	}
	return err
}

// Entries includes the time that the loop's body takes.
func (c *client) Entries(ctx context.Context, prefix string) iter.Seq2[kv.Entry, error] {
	return func(yield func(kv.Entry, error) bool) {
		var failed error
		ctx, end := c.start(ctx, "Entries", kv.PrefixRange(prefix))
		defer end(&failed)
		for entry, err := range c.Forward.Entries(ctx, prefix) {
			if err != nil {
				failed = err
			}
			if !yield(entry, err) {
				return
			}
		}
	}
}

func (c *client) Ping(ctx context.Context) (err error) {
	ctx, end := c.start(ctx, "Ping", kv.Range{})
	defer end(&err)
	return c.Forward.Ping(ctx)
}

func (c *client) GetGuarded(ctx context.Context, key string, guards ...kv.Guard) (_ any, err error) {
	ctx, end := c.start(ctx, "GetGuarded", kv.KeyRange(key))
	defer end(&err)
	return c.Forward.GetGuarded(ctx, key, guards...)
}

func (c *client) CASGuarded(ctx context.Context, key string, f func(any) (any, bool, error), guards ...kv.Guard) (err error) {
	ctx, end := c.start(ctx, "CASGuarded", kv.KeyRange(key))
	defer end(&err)
	return c.Forward.CASGuarded(ctx, key, c.deciding(ctx, key, f), guards...)
}

func (c *client) DeleteGuarded(ctx context.Context, key string, guards ...kv.Guard) (err error) {
	ctx, end := c.start(ctx, "DeleteGuarded", kv.KeyRange(key))
	defer end(&err)
	return c.Forward.DeleteGuarded(ctx, key, guards...)
}

func (c *client) GetVersion(ctx context.Context, key string, guards ...kv.Guard) (_ any, _ kv.Version, err error) {
	ctx, end := c.start(ctx, "GetVersion", kv.KeyRange(key))
	defer end(&err)
	return c.Forward.GetVersion(ctx, key, guards...)
}

func (c *client) SwapVersion(ctx context.Context, key string, prev kv.Version, value any, guards ...kv.Guard) (_ kv.Version, err error) {
	ctx, end := c.start(ctx, "SwapVersion", kv.KeyRange(key))
	defer end(&err)
	return c.Forward.SwapVersion(ctx, key, prev, value, guards...)
}
