package kvotel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/polykv/polykv/kv"
)

const (
	systemKey    = attribute.Key("db.system.name")
	operationKey = attribute.Key("db.operation.name")
	errorKey     = attribute.Key("error.type")
	storeKey     = attribute.Key("polykv.store")
	keyKey       = attribute.Key("polykv.key")
	prefixKey    = attribute.Key("polykv.prefix")
	outcomeKey   = attribute.Key("polykv.outcome")
	callersKey   = attribute.Key("polykv.callers")
	decisionKey  = attribute.Key("polykv.decision")
	eventKey     = attribute.Key("polykv.event")
)

// Tracing makes spans. One serves any number of clients, concurrently. It is an
// observer for kv.Options and factory.Deps, and a tracer for multi.WithTracer.
type Tracing struct {
	kv.NopObserver
	tracer trace.Tracer
}

var _ interface {
	kv.Observer
	kv.Tracer
} = (*Tracing)(nil)

// Option changes what [New] makes.
type Option func(*options)

type options struct{ provider trace.TracerProvider }

// WithTracerProvider has p make the spans. Default: otel.GetTracerProvider.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(o *options) { o.provider = p }
}

// New returns a Tracing.
func New(opts ...Option) *Tracing {
	o := options{provider: otel.GetTracerProvider()}
	for _, set := range opts {
		set(&o)
	}
	return &Tracing{tracer: o.provider.Tracer("github.com/polykv/polykv/kv/otel")}
}

// Start implements kv.Tracer.
func (t *Tracing) Start(ctx context.Context, w kv.Work) (context.Context, func(err error)) {
	name, kind, described := "store."+w.Op, trace.SpanKindClient, describe(w.Backend, w.Op, w.Range)
	if w.Op == "mirror" { // the requests that it makes are the store's
		name, kind, described[0] = w.Op, trace.SpanKindInternal, storeKey.String(w.Backend)
	}
	ctx, span := t.tracer.Start(sampled(ctx, w.Callers), name, trace.WithSpanKind(kind),
		trace.WithAttributes(described...), trace.WithLinks(links(w.Callers)...))
	for _, caller := range w.Callers {
		trace.SpanFromContext(caller).AddLink(trace.Link{SpanContext: span.SpanContext()})
	}
	return ctx, func(err error) {
		text := ""
		if err != nil && w.Op != "mirror" {
			text = err.Error()
		}
		finish(span, err, text)
	}
}

// sampled returns ctx with the span of the first caller whose trace is sampled, if
// that of ctx is not: somebody is to see what was done for all.
func sampled(ctx context.Context, callers []context.Context) context.Context {
	if at := trace.SpanContextFromContext(ctx); !at.IsValid() || at.IsSampled() {
		return ctx
	}
	for _, caller := range callers {
		if trace.SpanContextFromContext(caller).IsSampled() {
			return trace.ContextWithSpan(ctx, trace.SpanFromContext(caller))
		}
	}
	return ctx
}

// links leaves out callers that have no span.
func links(callers []context.Context) (all []trace.Link) {
	for _, caller := range callers {
		if to := trace.SpanContextFromContext(caller); to.IsValid() {
			all = append(all, trace.Link{SpanContext: to})
		}
	}
	return all
}

func describe(backend, op string, r kv.Range) []attribute.KeyValue {
	all := []attribute.KeyValue{systemKey.String(backend), operationKey.String(op)}
	switch {
	case r.IsPrefix:
		all = append(all, prefixKey.String(r.Key))
	case r.Key != "":
		all = append(all, keyKey.String(r.Key))
	}
	return all
}

// finish ends a span. text says of err what everybody may see.
func finish(span trace.Span, err error, text string) {
	if err != nil {
		span.SetAttributes(errorKey.String(kv.Reason(err)))
		span.SetStatus(codes.Error, text)
	}
	span.End()
}

// Swap implements kv.Observer: ctx has the span of the request.
func (t *Tracing) Swap(ctx context.Context, _, outcome string, callers int) {
	trace.SpanFromContext(ctx).SetAttributes(outcomeKey.String(outcome), callersKey.Int(callers))
}

// WatchEvent implements kv.Observer: ctx has the span of the watch.
func (t *Tracing) WatchEvent(ctx context.Context, key, kind string, _ time.Duration) {
	switch kind {
	case "synced", "interrupted":
		trace.SpanFromContext(ctx).AddEvent("polykv." + kind)
	case "undecodable":
		trace.SpanFromContext(ctx).AddEvent("polykv."+kind, trace.WithAttributes(keyKey.String(key)))
	}
}
