package kv

import (
	"context"
	"time"
)

// Observer is told what the engine does, in plain Go types, so that this
// package links no metrics library; kv/metrics implements it for Prometheus,
// kv/otel for traces. Methods are called concurrently and on hot paths: they
// must be quick and must not use the client. Embed [NopObserver] so that later
// additions don't break an implementation.
//
// ctx is that of the call or watch, with the values of who made it. What is done
// for several calls at once has the values of the first. Keys have the prefixes
// of [Prefix]; key is the prefix where one is read or watched.
type Observer interface {
	// Request: one request to the store ended. op is as in [Work]. err is nil if
	// the store answered, whatever the answer.
	Request(ctx context.Context, key, op string, d time.Duration, err error)

	// Swap: one swap was attempted for so many callers at once, by a request of
	// the same ctx that ends now. outcome is "applied", "conflict",
	// "guard_broken", "not_applied" or "unknown".
	Swap(ctx context.Context, key, outcome string, callers int)

	// CAS: one call of CAS or Delete ended, after its callback ran so often.
	CAS(ctx context.Context, key string, callbacks int, err error)

	// WatchEvent: a watch called its callback, so long after the event came
	// from the store. kind is "put", "delete", "synced", "interrupted" or
	// "undecodable"; of "synced" and "interrupted" there is no key.
	WatchEvent(ctx context.Context, key, kind string, lag time.Duration)

	// WatchResync: watches lost their session for this reason and will start a
	// new one. ctx is the session's, which has nobody's values.
	WatchResync(ctx context.Context, key string, err error)

	// Skipped: a key that breaks rule K1 was found in the store and left out.
	Skipped(ctx context.Context, key string)
}

// Tracer is what an [Observer] is besides, if it wants to be there when work
// begins and not only when it has ended. Without one that costs nothing.
type Tracer interface {
	// Start: work begins. It is done under the ctx that Start returns, which the
	// driver gets, and when it has ended, end is called, once, with its error.
	// Start must be as quick as the methods of an Observer.
	Start(ctx context.Context, w Work) (_ context.Context, end func(err error))
}

// Work is what a [Tracer] is told of.
type Work struct {
	// Op is "watch" for a session of watches, "mirror" for one attempt of package
	// multi to mirror a key, or a request to the store: "get", "scan", "swap",
	// "locate" (how far the store is), "grant", "renew" or "revoke" (of leases).
	Op string

	// Backend is that of [Options], or the name of the store that is mirrored into.
	Backend string

	// Range is the key, or the prefix. It is empty for leases.
	Range Range

	// Callers are the contexts of those for whom the work is done: the calls that
	// share a swap, the watches of a session, the writes that are mirrored. nil: the
	// only one is who gave ctx.
	Callers []context.Context
}

// callersKey is the key of a ctx's []context.Context for Work.Callers.
type callersKey struct{}

// start tells the tracer, if there is one, that work begins.
func (e *engine) start(ctx context.Context, op string, of Range) (context.Context, func(error)) {
	if e.tracer == nil {
		return ctx, untraced
	}
	callers, _ := ctx.Value(callersKey{}).([]context.Context)
	return e.tracer.Start(ctx, Work{Op: op, Backend: e.opts.Backend, Range: of, Callers: callers})
}

func untraced(error) {}

// shared returns ctx for work that is done for all of members.
func (e *engine) shared(ctx context.Context, members []*casCall) context.Context {
	if e.tracer == nil || len(members) < 2 {
		return ctx
	}
	callers := make([]context.Context, len(members))
	for i, c := range members {
		callers[i] = c.ctx
	}
	return context.WithValue(ctx, callersKey{}, callers)
}

// Observers returns an observer that tells each of several in turn, and is a
// [Tracer] if one of them is. Those that are nil are left out.
func Observers(several ...Observer) Observer {
	all, tracers := observers{}, tracers{}
	for _, o := range several {
		if o == nil {
			continue
		}
		all = append(all, o)
		if t, ok := o.(Tracer); ok {
			tracers = append(tracers, t)
		}
	}
	switch {
	case len(all) == 0:
		return NopObserver{}
	case len(all) == 1:
		return all[0]
	case len(tracers) == 0:
		return all
	}
	return struct {
		observers
		Tracer
	}{all, tracers}
}

type observers []Observer

func (o observers) Request(ctx context.Context, key, op string, d time.Duration, err error) {
	for _, each := range o {
		each.Request(ctx, key, op, d, err)
	}
}

func (o observers) Swap(ctx context.Context, key, outcome string, callers int) {
	for _, each := range o {
		each.Swap(ctx, key, outcome, callers)
	}
}

func (o observers) CAS(ctx context.Context, key string, callbacks int, err error) {
	for _, each := range o {
		each.CAS(ctx, key, callbacks, err)
	}
}

func (o observers) WatchEvent(ctx context.Context, key, kind string, lag time.Duration) {
	for _, each := range o {
		each.WatchEvent(ctx, key, kind, lag)
	}
}

func (o observers) WatchResync(ctx context.Context, key string, err error) {
	for _, each := range o {
		each.WatchResync(ctx, key, err)
	}
}

func (o observers) Skipped(ctx context.Context, key string) {
	for _, each := range o {
		each.Skipped(ctx, key)
	}
}

type tracers []Tracer

// Start has the work done under a ctx that all of them made, each of the one
// before it.
func (t tracers) Start(ctx context.Context, w Work) (context.Context, func(err error)) {
	ends := make([]func(error), len(t))
	for i, each := range t {
		ctx, ends[i] = each.Start(ctx, w)
	}
	return ctx, func(err error) {
		for _, end := range ends {
			end(err)
		}
	}
}

// NopObserver does nothing.
type NopObserver struct{}

var _ Observer = NopObserver{}

// Request does nothing.
func (NopObserver) Request(context.Context, string, string, time.Duration, error) {}

// Swap does nothing.
func (NopObserver) Swap(context.Context, string, string, int) {}

// CAS does nothing.
func (NopObserver) CAS(context.Context, string, int, error) {}

// WatchEvent does nothing.
func (NopObserver) WatchEvent(context.Context, string, string, time.Duration) {}

// WatchResync does nothing.
func (NopObserver) WatchResync(context.Context, string, error) {}

// Skipped does nothing.
func (NopObserver) Skipped(context.Context, string) {}
