// Package metrics measures kv clients for Prometheus. It is optional: package
// kv itself links no metrics library.
//
// There are two places to look from, and a client can have both. [Metrics.Wrap]
// sees what the application asks for and how long it waits; it works around
// any kv.Client. [Metrics.Observer] sees what the engine beneath makes of it:
// requests to the store, swaps and how many callers each carried, watches that
// lost the store. It goes into kv.Options.
//
// Durations are in seconds. The label backend is the name given to Wrap or
// Observer. Clients of one name add up. No label holds a key.
//
//	polykv_operation_duration_seconds      {backend, operation}          histogram, Wrap
//	polykv_operation_errors_total          {backend, operation, reason}  counter, Wrap
//	polykv_watches_running                 {backend, operation}          gauge, Wrap
//	polykv_store_request_duration_seconds  {backend, request}            histogram, Observer
//	polykv_store_request_errors_total      {backend, request, reason}    counter, Observer
//	polykv_swaps_total                     {backend, outcome}            counter, Observer
//	polykv_swap_callers                    {backend}                     histogram, Observer
//	polykv_cas_callbacks                   {backend}                     histogram, Observer
//	polykv_cas_errors_total                {backend, reason}             counter, Observer
//	polykv_watch_events_total              {backend, type}               counter, Observer
//	polykv_watch_lag_seconds               {backend}                     histogram, Observer
//	polykv_watch_resyncs_total             {backend, reason}             counter, Observer
//	polykv_skipped_keys_total              {backend}                     counter, Observer
//	polykv_mirror_duration_seconds         {backend}                     histogram, MirrorObserver
//	polykv_mirror_errors_total             {backend, reason}             counter, MirrorObserver
//	polykv_mirror_backlog_keys             {backend}                     gauge, MirrorObserver
//	polykv_mirror_repairs_total            {backend, outcome}             counter, MirrorObserver
//	polykv_mirror_differences_total        {backend}                     counter, MirrorObserver
//	polykv_primary_changes_total           {backend}                     counter, MirrorObserver
//	polykv_mirror_stray_keys               {backend}                     gauge, MirrorObserver
//	polykv_migration_phase                 {phase}                       gauge, MirrorObserver
//	polykv_migration_primary               {backend}                     gauge, MirrorObserver
//	polykv_migration_epoch                 {}                            gauge, MirrorObserver
//	polykv_migration_waiting_calls         {}                            gauge, MirrorObserver
//
// The label reason is one word for the first of these that the error matches:
// indeterminate, closed, fenced, conflict, invalid_key, too_large, permission,
// not_supported, missed, unavailable (the sentinels of package kv), canceled, deadline
// (of the caller's context), other (a callback's own error, a codec's, or one
// that only the backend knows).
package metrics

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Options tunes New. The zero value of a field means its default.
type Options struct {
	// DurationBuckets are the upper bounds, in seconds and ascending, of the
	// histograms of durations. Default: from 100 µs to 30 s. If reg has
	// polykv's metrics already, those keep the buckets they have.
	DurationBuckets []float64
}

// Metrics holds polykv's metrics; make it with [New]. All methods are safe for
// concurrent use. It is a prometheus.Collector, so that a registry can be rid
// of all of them by Unregister.
type Metrics struct {
	operationDuration *prometheus.HistogramVec
	operationErrors   *prometheus.CounterVec
	watchesRunning    *prometheus.GaugeVec

	requestDuration *prometheus.HistogramVec
	requestErrors   *prometheus.CounterVec
	swaps           *prometheus.CounterVec
	swapCallers     *prometheus.HistogramVec
	casCallbacks    *prometheus.HistogramVec
	casErrors       *prometheus.CounterVec
	watchEvents     *prometheus.CounterVec
	watchLag        *prometheus.HistogramVec
	watchResyncs    *prometheus.CounterVec
	skippedKeys     *prometheus.CounterVec

	mirrorDuration    *prometheus.HistogramVec
	mirrorErrors      *prometheus.CounterVec
	mirrorBacklog     *prometheus.GaugeVec
	mirrorRepairs     *prometheus.CounterVec
	mirrorDifferences *prometheus.CounterVec
	primaryChanges    *prometheus.CounterVec
	mirrorStrays      *prometheus.GaugeVec

	migrationPhase   *prometheus.GaugeVec
	migrationPrimary *prometheus.GaugeVec
	migrationEpoch   *prometheus.GaugeVec
	migrationWaiting *prometheus.GaugeVec
}

var _ prometheus.Collector = (*Metrics)(nil)

// New makes polykv's metrics and registers them with reg, all or none. If reg
// has them already, New returns those, so any number of components can call it
// with the same registry. With a nil reg they are registered nowhere.
//
// It fails on buckets that don't ascend and on a registry in which one of the
// names stands for something else.
func New(reg prometheus.Registerer, opts Options) (*Metrics, error) {
	buckets := opts.DurationBuckets
	for i := 1; i < len(buckets); i++ {
		if !(buckets[i-1] < buckets[i]) {
			return nil, fmt.Errorf("metrics.Options.DurationBuckets don't ascend: %v, then %v", buckets[i-1], buckets[i])
		}
	}
	if len(buckets) == 0 {
		buckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	}
	m := newMetrics(buckets)
	if reg == nil {
		return m, nil
	}
	err := reg.Register(m)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(*Metrics); ok {
			return existing, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("polykv's metrics can't be registered: %w", err)
	}
	return m, nil
}

func newMetrics(durations []float64) *Metrics {
	powersOfTwo := prometheus.ExponentialBuckets(1, 2, 11)
	return &Metrics{
		operationDuration: histogram("operation_duration_seconds",
			"How long calls of the client took, in seconds, callbacks of CAS included.", durations, "backend", "operation"),
		operationErrors: counter("operation_errors_total",
			"Calls of the client that failed. A watch that ends with its context has not failed.", "backend", "operation", "reason"),
		watchesRunning: gauge("watches_running",
			"Watches that are running.", "backend", "operation"),
		requestDuration: histogram("store_request_duration_seconds",
			"How long single requests to the store took, in seconds.", durations, "backend", "request"),
		requestErrors: counter("store_request_errors_total",
			"Requests to the store that got no answer or an error.", "backend", "request", "reason"),
		swaps: counter("swaps_total",
			"Atomic swaps that were attempted on the store.", "backend", "outcome"),
		swapCallers: histogram("swap_callers",
			"How many callers one swap carried.", powersOfTwo, "backend"),
		casCallbacks: histogram("cas_callbacks",
			"How often the callback of one CAS ran, or a deletion was tried.", append([]float64{0}, powersOfTwo[:7]...), "backend"),
		casErrors: counter("cas_errors_total",
			"Calls of CAS and Delete that failed.", "backend", "reason"),
		watchEvents: counter("watch_events_total",
			"Events that watches delivered.", "backend", "type"),
		watchLag: histogram("watch_lag_seconds",
			"How long events waited in this process for their watch's callback, in seconds.", durations, "backend"),
		watchResyncs: counter("watch_resyncs_total",
			"Times that a watch lost the store and started again.", "backend", "reason"),
		skippedKeys: counter("skipped_keys_total",
			"Keys found in the store that are no valid keys and were left out, each time anew.", "backend"),
		mirrorDuration: histogram("mirror_duration_seconds",
			"How long it took to make a key in a store equal to the primary's, in seconds.", durations, "backend"),
		mirrorErrors: counter("mirror_errors_total",
			"Attempts to mirror a key into a store that failed.", "backend", "reason"),
		mirrorBacklog: gauge("mirror_backlog_keys",
			"Keys that are left to be mirrored into a store.", "backend"),
		mirrorRepairs: counter("mirror_repairs_total",
			"Comparisons of the whole stores that ended.", "backend", "outcome"),
		mirrorDifferences: counter("mirror_differences_total",
			"Keys that comparisons of the whole stores found different.", "backend"),
		primaryChanges: counter("primary_changes_total",
			"Times that a store became primary.", "backend"),
		mirrorStrays: gauge("mirror_stray_keys",
			"Keys that the last comparison found in a store that is mirrored into, and that nobody had mirrored.", "backend"),
		migrationPhase: gauge("migration_phase",
			"1 for the phase that this client is in, as multi.Phase names it.", "phase"),
		migrationPrimary: gauge("migration_primary",
			"1 for the store that is primary, as far as this client knows. None: writes wait.", "backend"),
		migrationEpoch: gauge("migration_epoch",
			"Epoch of the record of the store that was primary last."),
		migrationWaiting: gauge("migration_waiting_calls",
			"Calls that wait for a store to be primary."),
	}
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "polykv", Name: name, Help: help, Buckets: buckets,
	}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "polykv", Name: name, Help: help}, labels)
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "polykv", Name: name, Help: help}, labels)
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.operationDuration, m.operationErrors, m.watchesRunning,
		m.requestDuration, m.requestErrors, m.swaps, m.swapCallers, m.casCallbacks, m.casErrors,
		m.watchEvents, m.watchLag, m.watchResyncs, m.skippedKeys,
		m.mirrorDuration, m.mirrorErrors, m.mirrorBacklog, m.mirrorRepairs, m.mirrorDifferences, m.primaryChanges,
		m.mirrorStrays, m.migrationPhase, m.migrationPrimary, m.migrationEpoch, m.migrationWaiting,
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
}
