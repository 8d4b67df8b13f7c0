package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/metrics"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// scrapes are what Prometheus would have of clients, one sample of each series
// for each scrape.
type scrapes struct {
	clients map[string]*prometheus.Registry // by instance
	steps   int
	samples map[string][]string // by series
}

// scrape takes one sample of every series.
func (s *scrapes) scrape(t *testing.T) {
	t.Helper()
	if s.samples == nil {
		s.samples = map[string][]string{}
	}
	for instance, r := range s.clients {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				s.add(instance, f, m)
			}
		}
	}
	s.steps++
}

func (s *scrapes) add(instance string, f *dto.MetricFamily, m *dto.Metric) {
	labels := fmt.Sprintf(`job="web",instance=%q`, instance)
	for _, l := range m.GetLabel() {
		labels += fmt.Sprintf(",%s=%q", l.GetName(), l.GetValue())
	}
	sample := func(name, more string, value float64) {
		series := name + "{" + labels + more + "}"
		for len(s.samples[series]) < s.steps {
			s.samples[series] = append(s.samples[series], "_") // it was not there
		}
		s.samples[series] = append(s.samples[series], fmt.Sprint(value))
	}
	switch h := m.GetHistogram(); {
	case h != nil:
		for _, b := range h.GetBucket() {
			sample(f.GetName()+"_bucket", fmt.Sprintf(",le=%q", fmt.Sprint(b.GetUpperBound())), float64(b.GetCumulativeCount()))
		}
		sample(f.GetName()+"_bucket", `,le="+Inf"`, float64(h.GetSampleCount()))
		sample(f.GetName()+"_sum", "", h.GetSampleSum())
		sample(f.GetName()+"_count", "", float64(h.GetSampleCount()))
	case m.GetCounter() != nil:
		sample(f.GetName(), "", m.GetCounter().GetValue())
	default:
		sample(f.GetName(), "", m.GetGauge().GetValue())
	}
}

func (s *scrapes) value(series string) string {
	all := s.samples[series]
	if len(all) < s.steps {
		return "_"
	}
	return all[len(all)-1]
}

// text is the series as promtool's tests have them.
func (s *scrapes) text() string {
	var lines []string
	for series, values := range s.samples {
		for len(values) < s.steps {
			values = append(values, "stale")
		}
		lines = append(lines, "  "+series+" "+strings.Join(values, " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// ago is the time of a scrape before the last one.
func (s *scrapes) ago(n int) time.Duration { return time.Duration(s.steps-1-n) * evaluated }

// follower is a coordinated client of two stores, which exports its metrics.
func (s *scrapes) follower(t *testing.T, instance string, stores [2]driver.Store, change ...func(*multi.Config)) kv.Client {
	t.Helper()
	r := prometheus.NewRegistry()
	m, err := metrics.New(r, metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.clients[instance] = r
	var backends []multi.Backend
	for i, name := range names {
		o := kv.Options{Backend: name, Observer: m.Observer(name), Logger: quiet}
		backends = append(backends, multi.Backend{Name: name, Client: m.Wrap(kv.New(stores[i], codec.String{}, &o), name)})
	}
	cfg := multi.DefaultConfig()
	cfg.Coordinated = true
	for _, f := range change {
		f(&cfg)
	}
	c, err := multi.New(cfg, backends, multi.WithObserver(m.MirrorObserver()), multi.WithLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	closing(t, c)
	return m.Wrap(c, "multi")
}

var (
	quiet = slog.New(slog.DiscardHandler)
	names = [2]string{"old", "new"}
)

func closing(t *testing.T, c kv.Client) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func write(ctx context.Context, c kv.Client, key string) error {
	return c.CAS(ctx, key, func(any) (any, bool, error) { return "v", false, nil })
}

// Series of clients that are moved, as the real ones export them: no alert fires
// while all goes well, those of writes that wait do while a cutover is held up,
// and none after it.
func TestAlertsOfARealMigration(t *testing.T) {
	s := &scrapes{clients: map[string]*prometheus.Registry{}}
	stores := [2]*inmemory.Store{inmemory.NewStore(), inmemory.NewStore()}
	var sides [2]migrate.Backend
	for i, name := range names {
		sides[i] = migrate.Backend{Name: name, Client: kv.New(stores[i].Open(), codec.String{}, &kv.Options{Logger: quiet})}
		closing(t, sides[i].Client)
	}
	held, goOn := make(chan struct{}), make(chan struct{})
	hold := sync.OnceFunc(func() {
		close(held)
		<-goOn
	})
	m, err := migrate.New(sides[0], sides[1], migrate.Options{Changed: func(c migrate.Change) {
		if c.To == "sealed" {
			hold()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var fleet []kv.Client
	for _, instance := range []string{"a", "b"} {
		fleet = append(fleet, s.follower(t, instance, [2]driver.Store{stores[0].Open(), stores[1].Open()}))
	}
	work := func(n int) {
		for range n {
			for _, c := range fleet {
				if err := errors.Join(write(t.Context(), c, "k"), c.Delete(t.Context(), "k"), write(t.Context(), c, "k")); err != nil {
					t.Fatal(err)
				}
			}
			s.scrape(t)
		}
	}
	work(50)
	if f := firing(t, s.text(), s.ago(0)); len(f) > 0 {
		t.Errorf("while all goes well these fire: %v", f)
	}

	moved := make(chan error, 1)
	go func() {
		_, err := m.Cutover(t.Context())
		moved <- err
	}()
	<-held
	written := make(chan error, 1)
	go func() { written <- write(t.Context(), fleet[0], "late") }()
	for deadline, n := time.Now().Add(time.Minute), ""; n != "1"; time.Sleep(time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			t.Fatalf("%s calls wait", n)
		}
		now := scrapes{clients: s.clients}
		now.scrape(t)
		n = now.value(`polykv_migration_waiting_calls{job="web",instance="a"}`)
	}
	for range 8 {
		s.scrape(t)
	}
	if f := firing(t, s.text(), s.ago(0)); !f["PolykvWritesWait"] || !f["PolykvNoPrimary"] || len(f) != 2 {
		t.Errorf("while writes wait these fire: %v", f)
	}
	close(goOn)
	if err := errors.Join(<-moved, <-written); err != nil {
		t.Fatal(err)
	}
	work(50)
	if f := firing(t, s.text(), s.ago(0)); len(f) > 0 {
		t.Errorf("after it these fire: %v", f)
	}
	s.wantBlank(t, "migration", ofTrouble...)
}
