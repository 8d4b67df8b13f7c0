package deploy

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/metrics"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kvtest"
)

// panel is what these tests look at of a panel of a dashboard.
type panel struct {
	Title       string
	Targets     []struct{ Expr string }
	FieldConfig struct{ Defaults struct{ NoValue string } }
}

func panels(t *testing.T, dashboard string) []panel {
	t.Helper()
	text, err := os.ReadFile("grafana/" + dashboard + ".json")
	var d struct{ Panels []panel }
	if err = errors.Join(err, json.Unmarshal(text, &d)); err != nil {
		t.Fatal(err)
	}
	return d.Panels
}

// blank are the panels of a dashboard that have nothing to show of what was scraped,
// and flat those that show nothing but 0. A blank one has to say what that means:
// "No data" looks like a fault to whoever searches for one.
func (s *scrapes) blank(t *testing.T, dashboard string) (blank, flat []string) {
	t.Helper()
	ask, end := prometheusOf(t, s.text())
	defer end()
	for _, p := range panels(t, dashboard) {
		some, high := false, false
		for _, q := range p.Targets {
			for _, series := range ask(p.Title, variables.Replace(q.Expr), time.Unix(0, 0), time.Unix(0, 0).Add(s.ago(0))) {
				some = true
				high = high || slices.ContainsFunc(series.Floats, func(f promql.FPoint) bool { return f.F != 0 })
			}
		}
		switch {
		case !some && p.FieldConfig.Defaults.NoValue == "":
			t.Errorf("of the dashboard %s the panel %q says \"No data\"", dashboard, p.Title)
		case !some:
			blank = append(blank, p.Title)
		case !high:
			flat = append(flat, p.Title)
		}
	}
	slices.Sort(blank)
	return blank, flat
}

// wantBlank wants no panels of a dashboard to be blank but these.
func (s *scrapes) wantBlank(t *testing.T, dashboard string, titles ...string) {
	t.Helper()
	if blank, _ := s.blank(t, dashboard); !slices.Equal(blank, titles) {
		t.Errorf("of the dashboard %s these panels show nothing: %q, want %q", dashboard, blank, titles)
	}
}

// Each panel of clients shows more than 0 of a client that works and fails, so that a
// single write of unknown outcome is seen, too, and there is an alert of it. Each panel
// of gossip shows something of two nodes that are well, but those of trouble.
func TestPanelsShowData(t *testing.T) {
	s := &scrapes{clients: map[string]*prometheus.Registry{}}
	s.troubled(t)
	if !firing(t, s.text(), s.ago(0))["PolykvWritesOfUnknownOutcome"] {
		t.Error("there is no alert of a write of unknown outcome")
	}
	s.wantBlank(t, "clients")
	if _, flat := s.blank(t, "clients"); len(flat) > 0 {
		t.Errorf("of the dashboard clients these panels show 0 alone: %q", flat)
	}
	s = &scrapes{clients: map[string]*prometheus.Registry{}}
	nodes := s.gossiping(t)
	s.until(t, "gossip", "Changes of other nodes a second")
	s.wantBlank(t, "gossip", "Members reached by TCP alone", "Nodes that are not healthy", "Refused a second",
		"Time since a member failed", "Time without a live peer", "Trouble in carrying changes, a second")
	s.node(t, "of another cluster", "other", nodes[0].Address())
	s.until(t, "gossip", "Refused a second", "Time without a live peer")
}

// until scrapes until these panels of a dashboard show something.
func (s *scrapes) until(t *testing.T, dashboard string, titles ...string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // between two looks
		s.scrape(t)
		blank, _ := s.blank(t, dashboard)
		if !slices.ContainsFunc(blank, func(title string) bool { return slices.Contains(titles, title) }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("these panels show nothing: %q", blank)
		}
	}
}

// ofTrouble are panels of a migration that show nothing while all goes well, if
// clients don't compare the stores.
var ofTrouble = []string{"Comparisons of the stores", "Failed mirrors a second", "Keys found different", "Keys that nobody had mirrored", "Stray keys now"}

// They show something of a client whose other store breaks.
func TestPanelsOfMirroring(t *testing.T) {
	s := &scrapes{clients: map[string]*prometheus.Registry{}}
	source, target := inmemory.NewStore(), kvtest.Wrap(inmemory.NewStore().Open())
	target.Cut()
	c := s.follower(t, "a", [2]driver.Store{source.Open(), target}, func(cfg *multi.Config) {
		cfg.Coordinated, cfg.Mirror = false, true
		cfg.MirrorTimeout, cfg.RepairInterval = 10*time.Millisecond, 10*time.Millisecond
	})
	if err := write(t.Context(), c, "k"); err != nil {
		t.Fatal(err)
	}
	s.until(t, "migration", "Failed mirrors a second")
	target.Mend()
	s.until(t, "migration", ofTrouble...)
}

// troubled has a client work, and its store break.
func (s *scrapes) troubled(t *testing.T) {
	t.Helper()
	r := prometheus.NewRegistry()
	s.clients["troubled"] = r
	m, err := metrics.New(r, metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := kvtest.Wrap(inmemory.NewStore().Open())
	o := kv.Options{Backend: "memory", Observer: m.Observer("memory"), Logger: quiet, RetryTimeout: 50 * time.Millisecond}
	c := m.Wrap(kv.New(store, codec.String{}, &o), "memory")
	closing(t, c)
	seen := make(chan kv.Event)
	ctx, cancel := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	watch.Go(func() {
		_ = kv.Watch(ctx, c, kv.Range{IsPrefix: true}, func(e kv.Event) bool {
			select {
			case seen <- e:
			case <-ctx.Done():
			}
			return true
		})
	})
	defer watch.Wait()
	defer cancel()
	await := func(kind kv.EventType) {
		for e := range seen {
			if e.Type == kind {
				return
			}
		}
	}
	await(kv.Synced)
	for range 10 {
		if err := errors.Join(write(t.Context(), c, "k"), c.Delete(t.Context(), "k")); err != nil {
			t.Fatal(err)
		}
		s.scrape(t)
	}
	store.OnWrite(func(carryOut func()) bool { carryOut(); store.Cut(); return false })
	if err := write(t.Context(), c, "k"); !errors.Is(err, kv.ErrIndeterminate) {
		t.Errorf("a write whose answer was lost: %v", err)
	}
	store.OnWrite(nil)
	for range 2 {
		store.Cut()
		await(kv.Interrupted)
		if _, err := c.Get(t.Context(), "k"); !errors.Is(err, kv.ErrUnavailable) {
			t.Errorf("a read without a store: %v", err)
		}
		s.scrape(t)
		store.Mend()
		await(kv.Synced)
		s.scrape(t)
	}
}

// gossiping has two nodes tell each other something.
func (s *scrapes) gossiping(t *testing.T) (nodes []*memberlist.Node) {
	t.Helper()
	var join []string
	for _, name := range names {
		nodes = append(nodes, s.node(t, name, "panels", join...))
		join = append(join, nodes[0].Address())
	}
	c, err := nodes[0].Client(codec.String{}, nil)
	if err = errors.Join(err, nodes[0].WaitReady(t.Context(), 1), nodes[1].WaitReady(t.Context(), 1)); err != nil {
		t.Fatal(err)
	}
	closing(t, c)
	for range 10 {
		if err := write(t.Context(), c, "k"); err != nil {
			t.Fatal(err)
		}
		s.scrape(t)
	}
	return nodes
}

func (s *scrapes) node(t *testing.T, name, label string, join ...string) *memberlist.Node {
	t.Helper()
	cfg := memberlist.DefaultConfig()
	cfg.NodeName, cfg.ClusterLabel, cfg.BindAddress, cfg.BindPort, cfg.Join = name, label, "127.0.0.1", 0, join
	node, err := memberlist.Start(t.Context(), cfg, codec.String{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Close() })
	s.clients[name] = prometheus.NewRegistry()
	s.clients[name].MustRegister(metrics.Figures(node.Figures, prometheus.Labels{"node": name}))
	return node
}
