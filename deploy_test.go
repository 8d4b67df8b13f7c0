package polykv_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/metrics"
)

// measured are the metrics that exist, with the labels of each.
func measured(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	m, err := metrics.New(nil, metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc, 1000)
	m.Describe(descs)
	close(descs)
	for d := range descs {
		parts := described.FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("%s is not understood", d)
		}
		labels := strings.FieldsFunc(parts[3], func(r rune) bool { return r == ',' || r == ' ' })
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} { // those of histograms for all, which is simple
			all[parts[1]+suffix] = append(labels, "le")
		}
	}
	cfg := memberlist.DefaultConfig()
	cfg.NodeName, cfg.ClusterLabel, cfg.BindAddress, cfg.BindPort = "deploy", t.Name(), "127.0.0.1", 0
	node, err := memberlist.Start(t.Context(), cfg, codec.String{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	node.Figures(func(name, _ string, _ bool, _ float64, labels ...string) {
		all[name] = append(all[name], "node")
		for i := 0; i < len(labels); i += 2 {
			all[name] = append(all[name], labels[i])
		}
	})
	return all
}

var (
	named   = regexp.MustCompile(`polykv_[a-z_]+`)
	matched = regexp.MustCompile(`(polykv_[a-z_]+)\{([^}]*)\}`)
	matcher = regexp.MustCompile(`([a-z_]+)\s*(=~|!~|!=|=)\s*"`)
	grouped = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
)

// checkExpression wants every metric and label of an expression to exist.
func checkExpression(t *testing.T, where, expr string, all map[string][]string) {
	t.Helper()
	known := map[string]bool{"job": true, "instance": true}
	for _, name := range named.FindAllString(expr, -1) {
		labels, exists := all[name]
		if !exists {
			t.Errorf("%s names the metric %s, which there is not", where, name)
		}
		for _, l := range labels {
			known[l] = true
		}
	}
	for _, m := range matched.FindAllStringSubmatch(expr, -1) {
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "job" && l[1] != "instance" && !slices.Contains(all[m[1]], l[1]) {
				t.Errorf("%s asks %s for the label %s, which it has not", where, m[1], l[1])
			}
		}
	}
	for _, m := range grouped.FindAllStringSubmatch(expr, -1) {
		for _, l := range strings.Split(m[1], ",") {
			if l = strings.TrimSpace(l); !known[l] {
				t.Errorf("%s groups by %s, which none of its metrics has", where, l)
			}
		}
	}
	if strings.Count(expr, "(") != strings.Count(expr, ")") || strings.Count(expr, "{") != strings.Count(expr, "}") {
		t.Errorf("%s: the parentheses of %s don't match", where, expr)
	}
}

// TestDashboards wants the dashboards to show metrics that exist, each panel in
// a place of its own.
func TestDashboards(t *testing.T) {
	all := measured(t)
	files, err := filepath.Glob("deploy/grafana/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	shown := ""
	for _, file := range files {
		var d struct {
			UID, Title string
			Templating struct{ List []struct{ Name string } }
			Panels     []struct {
				ID      int
				Title   string
				GridPos struct{ X, Y, W, H int }
				Targets []struct{ Expr, LegendFormat string }
			}
		}
		text := read(t, file)
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		shown += text
		places := map[[2]int]string{}
		for _, p := range d.Panels {
			at := [2]int{p.GridPos.X, p.GridPos.Y}
			if places[at] != "" || len(p.Targets) == 0 || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: panel %d %q: %+v", file, p.ID, p.Title, p)
			}
			places[at] = p.Title
			for _, target := range p.Targets {
				checkExpression(t, file+": "+p.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"), all)
			}
		}
		if len(d.Panels) < 10 || d.UID == "" || len(d.Templating.List) != 2 {
			t.Errorf("%s has %d panels, the uid %q and variables %v", file, len(d.Panels), d.UID, d.Templating.List)
		}
	}
	for name := range all {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "polykv_mirror") || strings.HasPrefix(name, "polykv_migration") {
			if !strings.Contains(shown, base) {
				t.Errorf("no dashboard shows %s", base)
			}
		}
	}
}

// TestAlerts wants the alerts to watch metrics that exist, and to say what to do.
func TestAlerts(t *testing.T) {
	all := measured(t)
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For string
				Labels           map[string]string
				Annotations      map[string]string
			}
		}
	}
	file, err := os.Open("deploy/prometheus/polykv.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if seen[r.Alert] || !regexp.MustCompile(`^\d+[sm]$`).MatchString(r.For) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" ||
				r.Labels["severity"] != "critical" && r.Labels["severity"] != "warning" {
				t.Errorf("the alert %q: %+v", r.Alert, r)
			}
			seen[r.Alert] = true
			checkExpression(t, r.Alert, r.Expr, all)
		}
	}
	if len(rules.Groups) != 3 || len(seen) < 15 {
		t.Errorf("%d groups with %d alerts", len(rules.Groups), len(seen))
	}
}
