package metrics_test

import (
	"context"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/metrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newMetrics(t testing.TB) (*metrics.Metrics, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m, err := metrics.New(reg, metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m, reg
}

// newClient returns a real client whose engine reports to m as "mem".
func newClient(t testing.TB, m *metrics.Metrics) kv.Client {
	c := kv.New(inmemory.NewStore().Open(), codec.String{}, &kv.Options{Observer: m.Observer("mem")})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// series is what a registry exports: by name and label values in the order of
// their names, as in "polykv_swaps_total mem applied". Histograms are two:
// their count, and their sum with " sum" appended.
func series(t testing.TB, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			switch {
			case metric.GetHistogram() != nil:
				got[name] = float64(metric.GetHistogram().GetSampleCount())
				got[name+" sum"] = metric.GetHistogram().GetSampleSum()
			case metric.GetCounter() != nil:
				got[name] = metric.GetCounter().GetValue()
			default:
				got[name] = metric.GetGauge().GetValue()
			}
		}
	}
	return got
}

// wantSeries checks some of the series.
func wantSeries(t testing.TB, reg prometheus.Gatherer, want map[string]float64) {
	t.Helper()
	got := series(t, reg)
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			t.Errorf("%s is %v (exported: %v), want %v", name, v, ok, value)
		}
	}
}

// withPrefix returns the names of the series that begin with prefix.
func withPrefix(t testing.TB, reg prometheus.Gatherer, prefix string) []string {
	t.Helper()
	var names []string
	for name := range series(t, reg) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

func put(value string) func(any) (any, bool, error) {
	return func(any) (any, bool, error) { return value, false, nil }
}

// everything is a client's whole method set.
type everything interface {
	kv.Client
	kv.Watcher
	kv.EntryReader
	kv.Pinger
	kv.GuardedClient
	kv.VersionedClient
	kv.RawViewer
	kv.Limiter
}

// measured calls every method whose duration is measured, once, by label.
var measured = map[string]func(ctx context.Context, c everything) error{
	"list":   func(ctx context.Context, c everything) error { _, err := c.List(ctx, ""); return err },
	"get":    func(ctx context.Context, c everything) error { _, err := c.Get(ctx, "k"); return err },
	"delete": func(ctx context.Context, c everything) error { return c.Delete(ctx, "k") },
	"cas":    func(ctx context.Context, c everything) error { return c.CAS(ctx, "k", put("v")) },
	"ping":   func(ctx context.Context, c everything) error { return c.Ping(ctx) },
	"entries": func(ctx context.Context, c everything) error {
		for _, err := range c.Entries(ctx, "") {
			return err
		}
		return nil
	},
	"get_guarded": func(ctx context.Context, c everything) error {
		_, err := c.GetGuarded(ctx, "k")
		return err
	},
	"cas_guarded": func(ctx context.Context, c everything) error {
		return c.CASGuarded(ctx, "k", put("v"))
	},
	"delete_guarded": func(ctx context.Context, c everything) error { return c.DeleteGuarded(ctx, "k") },
	"get_version": func(ctx context.Context, c everything) error {
		_, _, err := c.GetVersion(ctx, "k")
		return err
	},
	"swap_version": func(ctx context.Context, c everything) error {
		_, err := c.SwapVersion(ctx, "never written", 0, "v")
		return err
	},
}
