package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/kv"
)

// Observer returns an observer for kv.Options that measures the engine under
// the name backend. One may serve any number of clients.
func (m *Metrics) Observer(backend string) kv.Observer {
	of := prometheus.Labels{"backend": backend}
	requests := m.requestDuration.MustCurryWith(of)
	swaps := m.swaps.MustCurryWith(of)
	events := m.watchEvents.MustCurryWith(of)
	return &observer{
		requests: lookUp(func(op string) prometheus.Observer { return requests.WithLabelValues(op) },
			"get", "scan", "swap"),
		requestErrors: m.requestErrors.MustCurryWith(of),
		swaps: lookUp(func(outcome string) prometheus.Counter { return swaps.WithLabelValues(outcome) },
			"applied", "conflict", "guard_broken", "not_applied", "unknown"),
		swapCallers:  m.swapCallers.WithLabelValues(backend),
		casCallbacks: m.casCallbacks.WithLabelValues(backend),
		casErrors:    m.casErrors.MustCurryWith(of),
		watchEvents: lookUp(func(kind string) prometheus.Counter { return events.WithLabelValues(kind) },
			"put", "delete", "synced", "interrupted", "undecodable"),
		watchLag:     m.watchLag.WithLabelValues(backend),
		watchResyncs: m.watchResyncs.MustCurryWith(of),
		skippedKeys:  m.skippedKeys.WithLabelValues(backend),
	}
}

// series are the children of a metric by one label. Those that are called on
// hot paths are looked up once, beforehand, which also has them exported as 0
// before the first event; others, of a newer kv than this package, on demand.
type series[T any] struct {
	known map[string]T
	other func(label string) T
}

func lookUp[T any](of func(label string) T, known ...string) series[T] {
	s := series[T]{known: make(map[string]T, len(known)), other: of}
	for _, label := range known {
		s.known[label] = of(label)
	}
	return s
}

func (s series[T]) of(label string) T {
	if child, ok := s.known[label]; ok {
		return child
	}
	return s.other(label)
}

type observer struct {
	kv.NopObserver

	requests      series[prometheus.Observer]
	requestErrors *prometheus.CounterVec
	swaps         series[prometheus.Counter]
	swapCallers   prometheus.Observer
	casCallbacks  prometheus.Observer
	casErrors     *prometheus.CounterVec
	watchEvents   series[prometheus.Counter]
	watchLag      prometheus.Observer
	watchResyncs  *prometheus.CounterVec
	skippedKeys   prometheus.Counter
}

func (o *observer) Request(_ context.Context, _, op string, d time.Duration, err error) {
	o.requests.of(op).Observe(d.Seconds())
	if err != nil {
		o.requestErrors.WithLabelValues(op, kv.Reason(err)).Inc()
	}
}

func (o *observer) Swap(_ context.Context, _, outcome string, callers int) {
	o.swaps.of(outcome).Inc()
	o.swapCallers.Observe(float64(callers))
}

func (o *observer) CAS(_ context.Context, _ string, callbacks int, err error) {
	o.casCallbacks.Observe(float64(callbacks))
	if err != nil {
		o.casErrors.WithLabelValues(kv.Reason(err)).Inc()
	}
}

func (o *observer) WatchEvent(_ context.Context, _, kind string, lag time.Duration) {
	o.watchEvents.of(kind).Inc()
	o.watchLag.Observe(lag.Seconds())
}

func (o *observer) WatchResync(_ context.Context, _ string, err error) {
	o.watchResyncs.WithLabelValues(kv.Reason(err)).Inc()
}

func (o *observer) Skipped(context.Context, string) { o.skippedKeys.Inc() }
