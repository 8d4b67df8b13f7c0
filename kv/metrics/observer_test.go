package metrics_test

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/metrics"
)

// useEverything makes m export at least one series of each metric.
func useEverything(t *testing.T, m *metrics.Metrics) {
	o, ctx := m.Observer("b"), t.Context()
	o.Request(ctx, "k", "get", time.Second, nil)
	o.Request(ctx, "k", "swap", 2*time.Second, kv.ErrPermission)
	o.Request(ctx, "k", "swap", 2*time.Second, io.EOF)
	o.Swap(ctx, "k", "applied", 3)
	o.Swap(ctx, "k", "unknown", 5)
	o.CAS(ctx, "k", 2, nil)
	o.CAS(ctx, "k", 4, context.Canceled)
	o.WatchEvent(ctx, "k", "put", time.Second)
	o.WatchEvent(ctx, "k", "synced", 3*time.Second)
	o.WatchResync(ctx, "k", io.EOF)
	o.Skipped(ctx, "a//b")
	c := m.Wrap(&failing{err: kv.ErrConflict}, "b")
	_, _ = c.Get(t.Context(), "k")
}

func TestObserver(t *testing.T) {
	m, reg := newMetrics(t)
	useEverything(t, m)
	wantSeries(t, reg, map[string]float64{
		"polykv_store_request_duration_seconds b get":         1,
		"polykv_store_request_duration_seconds b get sum":     1,
		"polykv_store_request_duration_seconds b swap":        2,
		"polykv_store_request_duration_seconds b swap sum":    4,
		"polykv_store_request_duration_seconds b scan":        0,
		"polykv_store_request_errors_total b permission swap": 1,
		"polykv_store_request_errors_total b other swap":      1,
		"polykv_swaps_total b applied":                        1,
		"polykv_swaps_total b unknown":                        1,
		"polykv_swaps_total b conflict":                       0,
		"polykv_swaps_total b guard_broken":                   0,
		"polykv_swaps_total b not_applied":                    0,
		"polykv_swap_callers b":                               2,
		"polykv_swap_callers b sum":                           8,
		"polykv_cas_callbacks b":                              2,
		"polykv_cas_callbacks b sum":                          6,
		"polykv_cas_errors_total b canceled":                  1,
		"polykv_watch_events_total b put":                     1,
		"polykv_watch_events_total b synced":                  1,
		"polykv_watch_events_total b delete":                  0,
		"polykv_watch_lag_seconds b":                          2,
		"polykv_watch_lag_seconds b sum":                      4,
		"polykv_watch_resyncs_total b other":                  1,
		"polykv_skipped_keys_total b":                         1,
	})
}

func TestObserverTakesLabelsThatItDoesNotKnow(t *testing.T) {
	m, reg := newMetrics(t)
	o, ctx := m.Observer("b"), t.Context()
	o.Request(ctx, "k", "lease", time.Second, nil)
	o.Swap(ctx, "k", "postponed", 1)
	o.WatchEvent(ctx, "k", "moved", 0)
	wantSeries(t, reg, map[string]float64{
		"polykv_store_request_duration_seconds b lease": 1,
		"polykv_swaps_total b postponed":                1,
		"polykv_watch_events_total b moved":             1,
	})
}

func TestObserverOfARealEngine(t *testing.T) {
	ctx := t.Context()
	m, reg := newMetrics(t)
	c := newClient(t, m)
	if err := c.CAS(ctx, "k", put("v")); err != nil {
		t.Fatal(err)
	}
	c.WatchKey(ctx, "k", func(any) bool { return false })
	if _, err := c.List(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if err := c.CAS(ctx, "k", func(any) (any, bool, error) { return nil, false, io.EOF }); err == nil {
		t.Fatal("a callback's error was lost")
	}
	wantSeries(t, reg, map[string]float64{
		"polykv_store_request_duration_seconds mem swap": 1,
		"polykv_store_request_duration_seconds mem scan": 1,
		"polykv_swaps_total mem applied":                 1,
		"polykv_swap_callers mem sum":                    1,
		"polykv_cas_callbacks mem":                       2,
		"polykv_cas_errors_total mem other":              1,
		"polykv_watch_events_total mem put":              1,
		"polykv_watch_lag_seconds mem":                   1,
	})
}
