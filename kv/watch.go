package kv

import (
	"context"
	"errors"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// WatchKey implements Client.
func (c *client) WatchKey(ctx context.Context, key string, f func(any) bool) {
	c.watchValues(ctx, "WatchKey", KeyRange(key), func(_ string, value any) bool { return f(value) })
}

// WatchPrefix implements Client.
func (c *client) WatchPrefix(ctx context.Context, prefix string, f func(key string, value any) bool) {
	c.watchValues(ctx, "WatchPrefix", PrefixRange(prefix), f)
}

func (c *client) watchValues(ctx context.Context, op string, r Range, f func(key string, value any) bool) {
	err := c.watch(ctx, r, func(ev Event) bool {
		switch ev.Type {
		case Put:
			return f(ev.Key, ev.Value)
		case Delete:
			return f(ev.Key, nil)
		default:
			return true
		}
	})
	if errors.Is(err, ErrInvalidKey) || errors.Is(err, ErrClosed) {
		c.engine.opts.Logger.Warn("polykv: a watch ended", "error", c.fail(op, r.Key, err))
	}
}

// Watch implements Watcher.
func (c *client) Watch(ctx context.Context, r Range, f func(Event) bool) error {
	if err := c.watch(ctx, r, f); err != nil {
		return c.fail("Watch", r.Key, err)
	}
	return nil
}

// watch drains on the caller's goroutine what a session goroutine puts into a
// table.
func (c *client) watch(ctx context.Context, r Range, f func(Event) bool) error {
	e := c.engine
	if r.IsPrefix {
		if e.ctx.Err() != nil {
			return ErrClosed
		}
	} else if err := c.admit(ctx, r.Key, nil); err != nil {
		return err
	}
	t := newWatchTable(func(key string) bool { return r.Contains(key) && c.visible(ctx, r.Key, key) }, c.sum)
	t.byVersion = RewritesWanted(ctx)
	end, ok := e.feed(ctx, r, t)
	if !ok {
		return ErrClosed
	}
	defer end() // also when f panics
	for {
		switch {
		case e.ctx.Err() != nil:
			return ErrClosed
		case ctx.Err() != nil:
			return ctxError(ctx, nil)
		}
		pending, ok := t.next()
		if ok {
			if !c.deliver(ctx, t, pending, f) {
				return nil
			}
			continue
		}
		select {
		case <-t.wake:
		case <-ctx.Done():
		case <-e.ctx.Done():
		}
	}
}

// deliver calls f with one pending event, if it is still news.
func (c *client) deliver(ctx context.Context, t *watchTable, p pendingEvent, f func(Event) bool) bool {
	ev := p.event
	if ev.Type == Put {
		value, err := c.open(p.stored, false)
		ev.Stored = p.stored.bytes
		if encoded, ok := value.([]byte); ok && c.raw {
			ev.Stored = encoded
		}
		if err != nil {
			t.undelivered(p)
			ev.Type, ev.Err = Undecodable, err
			c.engine.opts.Logger.Warn("polykv: a watched value was skipped", "backend", c.engine.opts.Backend, "key", ev.Key, "error", err)
		}
		ev.Value = value
	}
	c.engine.opts.Observer.WatchEvent(ctx, ev.Key, ev.Type.String(), time.Since(p.arrived))
	return f(ev)
}

// feed has a table told of what happens in r, until end is called. caller is the
// watch's ctx.
func (e *engine) feed(caller context.Context, r Range, t *watchTable) (end func(), ok bool) {
	if !e.local {
		d := &downstream{ctx: caller, rng: r, table: t}
		return func() { e.part(d) }, e.join(d)
	}
	if !e.gate.enter() {
		return nil, false
	}
	// A session in this process costs nothing that sharing could save.
	ctx, cancel := context.WithCancel(e.ctx)
	ended := make(chan struct{})
	go func() {
		defer e.gate.leave()
		defer close(ended)
		e.sessions(ctx, alone{caller, r, t})
	}()
	return func() {
		cancel()
		<-ended
	}, true
}

// sink takes in what watch sessions tell, one after another.
type sink interface {
	// begin announces a session, which end ends for a reason.
	begin(end context.CancelCauseFunc) driver.WatchRequest
	emit(ev driver.Event)

	// callers are the contexts of the watches that are told.
	callers() []context.Context

	// interrupted notes why a session ended, and returns since when it had been
	// in step; zero: never.
	interrupted(err error) (since time.Time)
}

// alone is the sink of a single watch.
type alone struct {
	ctx context.Context // the watch's
	r   Range
	*watchTable
}

func (a alone) begin(context.CancelCauseFunc) driver.WatchRequest {
	a.watchTable.begin()
	return driver.WatchRequest{Range: a.r}
}

func (a alone) callers() []context.Context { return []context.Context{a.ctx} }

// sessions runs one watch session after another until ctx is done.
func (e *engine) sessions(ctx context.Context, to sink) {
	pause := e.pauses()
	for ctx.Err() == nil {
		of, end := context.WithCancelCause(ctx)
		req := to.begin(end)
		session, ended := of, untraced
		if e.tracer != nil {
			session, ended = e.start(context.WithValue(of, callersKey{}, to.callers()), "watch", req.Range)
		}
		err := e.store.Watch(session, req, to.emit)
		if ctx.Err() != nil {
			end(nil)
			ended(nil)
			return
		}
		if of.Err() != nil {
			err = context.Cause(of)
		}
		if err == nil {
			err = errors.New("the watch session ended without a reason")
		}
		if since := to.interrupted(err); !since.IsZero() && time.Since(since) > e.opts.MaxBackoff {
			pause = e.pauses() // it had worked for a while: not the same trouble going on
		}
		e.opts.Observer.WatchResync(session, req.Range.Key, err)
		ended(err)
		end(nil)
		e.opts.Logger.Debug("polykv: a watch session ended and starts again",
			"backend", e.opts.Backend, "key", req.Range.Key, "prefix", req.Range.IsPrefix, "after", pause.Next, "error", err)
		pause.Sleep(ctx, ctx, nil)
	}
}
