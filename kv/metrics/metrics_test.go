package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/polykv/polykv/kv/metrics"
)

func TestNewSharesWhatARegistryHas(t *testing.T) {
	m, reg := newMetrics(t)
	again, err := metrics.New(reg, metrics.Options{DurationBuckets: []float64{1}})
	if err != nil || again != m {
		t.Fatalf("a second New = %p, %v, want %p", again, err, m)
	}
	again.Observer("a").Skipped(t.Context(), "")
	m.Observer("a").Skipped(t.Context(), "")
	wantSeries(t, reg, map[string]float64{"polykv_skipped_keys_total a": 2})
	if !reg.Unregister(m) {
		t.Error("the metrics could not be unregistered")
	}
}

func TestNewBehindLabels(t *testing.T) {
	reg := prometheus.NewRegistry()
	labelled := func(store string) *metrics.Metrics {
		t.Helper()
		m, err := metrics.New(prometheus.WrapRegistererWith(prometheus.Labels{"store": store}, reg), metrics.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	one, two := labelled("one"), labelled("two")
	if one == two || labelled("one") != one {
		t.Error("metrics are shared across labels, or not within them")
	}
	one.Observer("a").Skipped(t.Context(), "")
	wantSeries(t, reg, map[string]float64{"polykv_skipped_keys_total a one": 1})
}

func TestNewRegistersAllOrNone(t *testing.T) {
	reg := prometheus.NewRegistry()
	taken := prometheus.NewCounter(prometheus.CounterOpts{Name: "polykv_skipped_keys_total", Help: "not ours"})
	reg.MustRegister(taken)
	m, err := metrics.New(reg, metrics.Options{})
	if err == nil || m != nil || !strings.Contains(err.Error(), "polykv_skipped_keys_total") {
		t.Fatalf("New = %v, %v, want an error that names the metric", m, err)
	}
	// This name would be taken if only the first metrics had been registered.
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "polykv_watches_running", Help: "any"}))
}

func TestNewWithoutRegistry(t *testing.T) {
	m, err := metrics.New(nil, metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m.Observer("b").Skipped(t.Context(), "")
	if n := testutil.CollectAndCount(m, "polykv_skipped_keys_total"); n != 1 {
		t.Errorf("%d series, want 1", n)
	}
}

func TestDurationBuckets(t *testing.T) {
	for _, buckets := range [][]float64{{1, 1}, {2, 1}} {
		if _, err := metrics.New(nil, metrics.Options{DurationBuckets: buckets}); err == nil {
			t.Errorf("buckets %v were accepted", buckets)
		}
	}
	reg := prometheus.NewRegistry()
	m, err := metrics.New(reg, metrics.Options{DurationBuckets: []float64{.5, 2}})
	if err != nil {
		t.Fatal(err)
	}
	m.Observer("b").WatchEvent(t.Context(), "k", "put", time.Second)
	want := `
# HELP polykv_watch_lag_seconds How long events waited in this process for their watch's callback, in seconds.
# TYPE polykv_watch_lag_seconds histogram
polykv_watch_lag_seconds_bucket{backend="b",le="0.5"} 0
polykv_watch_lag_seconds_bucket{backend="b",le="2"} 1
polykv_watch_lag_seconds_bucket{backend="b",le="+Inf"} 1
polykv_watch_lag_seconds_sum{backend="b"} 1
polykv_watch_lag_seconds_count{backend="b"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "polykv_watch_lag_seconds"); err != nil {
		t.Error(err)
	}
}

// All series at once, under the rules of Prometheus for names and help texts.
func TestNamesFollowTheConventions(t *testing.T) {
	m, reg := newMetrics(t)
	useEverything(t, m)
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 13 {
		t.Errorf("%d metrics are exported, want all 13 that the package documents", len(families))
	}
}
