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

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/metrics"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kvtest"
)

// panels are the expressions of a dashboard, by the titles of its panels.
func panels(t *testing.T, name string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("grafana/" + name + ".json")
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err = errors.Join(err, json.Unmarshal(text, &d)); err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all[p.Title] = append(all[p.Title], variables.Replace(q.Expr))
		}
	}
	return all
}

// blank are the panels of a dashboard that have nothing to show of what was scraped.
func (s *scrapes) blank(t *testing.T, dashboard string) (titles []string) {
	t.Helper()
	ask, end := prometheusOf(t, s.text())
	defer end()
	for title, expressions := range panels(t, dashboard) {
		for _, expression := range expressions {
			matrix := ask(title, expression, time.Unix(0, 0), time.Unix(0, 0).Add(s.ago(0)))
			if len(matrix) == 0 && !slices.Contains(titles, title) {
				titles = append(titles, title)
			}
		}
	}
	slices.Sort(titles)
	return titles
}

// wantBlank wants no panels of a dashboard to be blank but these.
func (s *scrapes) wantBlank(t *testing.T, dashboard string, titles ...string) {
	t.Helper()
	if blank := s.blank(t, dashboard); !slices.Equal(blank, titles) {
		t.Errorf("of the dashboard %s these panels show nothing: %q, want %q", dashboard, blank, titles)
	}
}

// Each panel of clients and of gossip shows something of a client that works and
// fails, and of two nodes that are well.
func TestPanelsShowData(t *testing.T) {
	s := &scrapes{clients: map[string]*prometheus.Registry{}}
	s.troubled(t)
	s.wantBlank(t, "clients")
	s = &scrapes{clients: map[string]*prometheus.Registry{}}
	s.gossiping(t)
	s.wantBlank(t, "gossip", "Nodes that are not healthy")
}

// ofTrouble are panels of a migration that show nothing while all goes well, if
// clients don't compare the stores.
var ofTrouble = []string{"Comparisons of the stores", "Failed mirrors a second", "Keys found different", "Keys that nobody had mirrored"}

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
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) { // between two looks
		s.scrape(t)
		blank := s.blank(t, "migration")
		if !slices.Contains(blank, "Failed mirrors a second") {
			target.Mend()
		}
		if !slices.ContainsFunc(blank, func(title string) bool { return slices.Contains(ofTrouble, title) }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("these panels show nothing: %q", blank)
		}
	}
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
	await(kv.Interrupted)
	s.scrape(t)
	store.OnWrite(nil)
	store.Mend()
	await(kv.Synced)
	s.scrape(t)
}

// gossiping has two nodes tell each other something.
func (s *scrapes) gossiping(t *testing.T) {
	t.Helper()
	var clients []kv.Client
	var nodes []*memberlist.Node
	for _, name := range names {
		cfg := memberlist.DefaultConfig()
		cfg.NodeName, cfg.ClusterLabel, cfg.BindAddress, cfg.BindPort = name, "panels", "127.0.0.1", 0
		for _, n := range nodes {
			cfg.Join = append(cfg.Join, n.Address())
		}
		node, err := memberlist.Start(t.Context(), cfg, codec.String{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = node.Close() })
		s.clients[name] = prometheus.NewRegistry()
		s.clients[name].MustRegister(metrics.Figures(node.Figures, prometheus.Labels{"node": name}))
		c, err := node.Client(codec.String{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		closing(t, c)
		nodes, clients = append(nodes, node), append(clients, c)
	}
	for range 10 {
		if err := write(t.Context(), clients[0], "k"); err != nil {
			t.Fatal(err)
		}
		s.scrape(t)
	}
}
