package deploy

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql/parser"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/metrics"
	"github.com/polykv/polykv/kv/multi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var described = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)

// exported are the metrics that exist, with the labels of each.
var exported = sync.OnceValues(func() (map[string][]string, error) {
	all := map[string][]string{}
	m, err := metrics.New(nil, metrics.Options{})
	if err != nil {
		return nil, err
	}
	descs := make(chan *prometheus.Desc, 1000)
	m.Describe(descs)
	close(descs)
	for d := range descs {
		parts := described.FindStringSubmatch(d.String())
		if parts == nil {
			return nil, fmt.Errorf("%s is not understood", d)
		}
		labels := strings.FieldsFunc(parts[2], func(r rune) bool { return r == ',' || r == ' ' })
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} { // those of histograms for all, which is simple
			all[parts[1]+suffix] = append(labels, "le")
		}
	}
	cfg := memberlist.DefaultConfig()
	cfg.NodeName, cfg.ClusterLabel, cfg.BindAddress, cfg.BindPort = "deploy", "deploy", "127.0.0.1", 0
	node, err := memberlist.Start(context.Background(), cfg, codec.String{})
	if err != nil {
		return nil, err
	}
	defer node.Close()
	node.Figures(func(name, _ string, _ bool, _ float64, labels ...string) {
		all[name] = append(all[name], "node")
		for i := 0; i < len(labels); i += 2 {
			all[name] = append(all[name], labels[i])
			valuesOf[labels[i]] = append(valuesOf[labels[i]], labels[i+1])
		}
	})
	reg := prometheus.NewRegistry()
	if m, err = metrics.New(reg, metrics.Options{}); err != nil {
		return nil, err
	}
	c := m.Wrap(kv.New(inmemory.NewStore().Open(), codec.String{}, nil), "memory")
	defer c.Close()
	_, _ = c.Get(context.Background(), "k")
	_ = write(context.Background(), c, "k")
	families, err := reg.Gather()
	if err != nil {
		return nil, err
	}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			for _, l := range s.GetLabel() {
				valuesOf[l.GetName()] = append(valuesOf[l.GetName()], l.GetValue())
			}
		}
	}
	return all, nil
})

// valuesOf are values of labels that exist, which exported adds to. Labels that it
// doesn't name have any.
var valuesOf = map[string][]string{
	"phase": {string(multi.PhaseUnknown), string(multi.PhaseCutover), string(multi.PhaseFinished), string(multi.PhaseFenced)},
	"reason": {kv.Reason(kv.ErrUnavailable), kv.Reason(kv.ErrPermission), kv.Reason(kv.ErrConflict), kv.Reason(kv.ErrIndeterminate),
		kv.Reason(kv.ErrFenced), kv.Reason(context.Canceled)},
}

var promQL = parser.NewParser(parser.Options{})

// variables are Grafana's, which are not PromQL, with a value that they may have.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$__interval", "1m", "$__range", "1h", "$job", "web")

// checkExpression wants an expression to parse, and every metric of it to exist, with
// the labels and their values that it asks for.
func checkExpression(t *testing.T, where, text string) {
	t.Helper()
	all, err := exported()
	if err != nil {
		t.Fatal(err)
	}
	expr, err := promQL.ParseExpr(variables.Replace(text))
	if err != nil {
		t.Errorf("%s: %s: %v", where, text, err)
		return
	}
	known := []string{"job", "instance"} // that Prometheus adds
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		s, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		labels, exists := all[s.Name]
		if !exists {
			t.Errorf("%s names the metric %s, which there is not", where, s.Name)
		}
		known = append(known, labels...)
		for _, m := range s.LabelMatchers {
			if m.Name != "__name__" && m.Name != "job" && m.Name != "instance" && !slices.Contains(labels, m.Name) {
				t.Errorf("%s asks %s for the label %s, which it has not", where, s.Name, m.Name)
			}
			for _, value := range strings.Split(m.Value, "|") {
				if exist := valuesOf[m.Name]; exist != nil && !slices.Contains(exist, value) {
					t.Errorf("%s asks %s for the %s %q, which there is not: %q", where, s.Name, m.Name, value, exist)
				}
			}
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		var names []string
		switch n := node.(type) {
		case *parser.AggregateExpr:
			names = n.Grouping
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				names = n.VectorMatching.MatchingLabels
			}
		}
		for _, name := range names {
			if !slices.Contains(known, name) {
				t.Errorf("%s groups by %s, which none of its metrics has", where, name)
			}
		}
		return nil
	})
}
