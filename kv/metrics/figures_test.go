package metrics_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/polykv/polykv/kv/metrics"
)

func TestFiguresShowInAScrape(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	sent := -1.0 // the first call is the registry's, for the names
	collector := metrics.Figures(func(yield func(string, string, bool, float64, ...string)) {
		sent++
		yield("x_sent_total", "What was sent.", true, sent, "kind", "frame")
		yield("x_sent_total", "What was sent.", true, 2*sent, "kind", "other")
		yield("x_members", "Who is there.", false, 3)
	}, prometheus.Labels{"node": "a"})
	reg.MustRegister(collector)
	for _, want := range []string{"1", "2"} {
		got, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || got[1].GetMetric()[0].GetCounter().GetValue() == 0 {
			t.Fatalf("scrape %s: %v", want, got)
		}
	}
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP x_members Who is there.
# TYPE x_members gauge
x_members{node="a"} 3
# HELP x_sent_total What was sent.
# TYPE x_sent_total counter
x_sent_total{kind="frame",node="a"} 3
x_sent_total{kind="other",node="a"} 6
`))
	if err != nil {
		t.Error(err)
	}
	if !reg.Unregister(collector) {
		t.Error("it can't be unregistered")
	}
}
