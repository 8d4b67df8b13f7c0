package factory_test

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/progress"
)

const twoStores = `
backend: multi
multi:
  primary: {backend: inmemory, name: old, prefix: a/, inmemory: {name: multi-test}}
  secondary: {backend: inmemory, name: new, prefix: b/, inmemory: {name: multi-test}}
  mirror_timeout: 3s
`

func TestTwoStores(t *testing.T) {
	cfg := factory.NewConfig()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	cfg.RegisterFlags(fs, "kv.")
	if err := fs.Parse([]string{"--kv.multi.secondary.prefix=c/", "--kv.multi.mirror-workers", "7"}); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Load(strings.NewReader(twoStores)); err != nil {
		t.Fatal(err)
	}
	if m := cfg.Multi; m.Primary.Prefix != "a/" || m.Secondary.Prefix != "c/" || m.MirrorWorkers != 7 || m.MirrorTimeout.Seconds() != 3 || !m.Mirror {
		t.Fatalf("the section is %v", cfg)
	}
	registry := prometheus.NewPedanticRegistry()
	traced := &works{}
	client, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{Registerer: registry, Observer: traced})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.CAS(t.Context(), "k", func(any) (any, bool, error) { return "v", false, nil }); err != nil {
		t.Fatal(err)
	}
	plain := factory.NewConfig()
	plain.Backend, plain.InMemory.Name = "inmemory", "multi-test"
	outside, err := factory.New(t.Context(), plain, codec.String{}, factory.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	for _, key := range []string{"a/k", "c/k"} {
		if got, err := outside.Get(t.Context(), key); got != "v" || err != nil {
			t.Errorf("%s is %v, %v", key, got, err)
		}
	}
	metrics, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, m := range metrics {
		found = found || m.GetName() == "polykv_mirror_duration_seconds" && m.GetMetric()[0].GetHistogram().GetSampleCount() == 1
	}
	if !found {
		t.Error("the mirrored write is not among the metrics")
	}
	for _, work := range []string{"inmemory swap a/k", "inmemory swap c/k", "new mirror k"} {
		if _, told := traced.seen.Load(work); !told {
			t.Errorf("the tracer was not told of %q", work)
		}
	}
}

// works is an observer that traces.
type works struct {
	kv.NopObserver
	seen sync.Map // of strings
}

func (w *works) Start(ctx context.Context, work kv.Work) (context.Context, func(err error)) {
	w.seen.Store(work.Backend+" "+work.Op+" "+work.Range.Key, true)
	return ctx, func(error) {}
}

func TestTwoStoresThatAreWrong(t *testing.T) {
	for change, want := range map[string]string{
		"--multi.secondary.name=old":        `multi.secondary.name: both stores are named "old"`,
		"--multi.secondary.backend=multi":   `multi.secondary.backend: unknown backend "multi"`,
		"--multi.primary.prefix=x":          `multi.primary.prefix: `,
		"--multi.mirror-workers=0":          "multi.mirror_workers: 0 is not allowed",
		"--multi.primary.backend=etcd":      "",
		"--multi.primary.client.scan-page=": "invalid argument",
		"--name=x":                          "unknown flag: --name",
	} {
		cfg := factory.NewConfig()
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		cfg.RegisterFlags(fs, "")
		err := fs.Parse([]string{change})
		if err == nil {
			err = errors.Join(cfg.Load(strings.NewReader(twoStores)), cfg.Validate())
		}
		if want == "" && err == nil {
			continue
		}
		wantError(t, err, want)
	}
	cfg := factory.NewConfig()
	wantError(t, cfg.Load(strings.NewReader("multi: {primary: {multi: {}}}")), "multi.primary.multi: unknown field")
	cfg = factory.NewConfig()
	cfg.Backend, cfg.Name = "inmemory", "x"
	wantError(t, cfg.Validate(), "name: only the stores of the section multi have names")
}

// A coordinated client needs a record before anything goes.
func TestTwoStoresCoordinated(t *testing.T) {
	cfg := factory.NewConfig()
	if err := cfg.Load(strings.NewReader(twoStores + "  coordinated: true\n")); err != nil {
		t.Fatal(err)
	}
	client, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Get(t.Context(), "k"); !errors.Is(err, kv.ErrFenced) || !strings.Contains(err.Error(), "migrate start") {
		t.Errorf("Get without a record returned %v", err)
	}
	if c, ok := client.(*multi.Client); !ok || c.Status().Phase != multi.PhaseFenced {
		t.Errorf("the client is a %T", client)
	}
}

// A side of the backend "memberlist" is known to be spread by gossip: one client
// mirrors for all, and a coordinated migration is refused.
func TestTwoStoresOneOfThemGossip(t *testing.T) {
	const text = `
backend: multi
multi:
  primary: {backend: memberlist, memberlist: {node_name: multi, cluster_label: multi, bind_address: 127.0.0.1, bind_port: 0}}
  secondary: {backend: inmemory, inmemory: {name: multi-gossip-test}}
`
	open := func(more string) (kv.Client, error) {
		cfg := factory.NewConfig()
		if err := cfg.Load(strings.NewReader(text + more)); err != nil {
			t.Fatal(err)
		}
		return factory.New(t.Context(), cfg, &restless{}, factory.Deps{})
	}
	if _, err := open("  coordinated: true\n"); !errors.Is(err, kv.ErrNotSupported) {
		t.Errorf("a coordinated client over gossip: %v", err)
	}
	client, err := open("")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, ok := client.(*multi.Client)
	if !ok {
		t.Fatalf("the client is a %T", client)
	}
	for deadline := time.Now().Add(30 * time.Second); !c.Status().Owns; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody mirrors")
		}
	}
	// Values that merge are compared as such, whatever their bytes.
	if err := client.CAS(t.Context(), "k", func(any) (any, bool, error) {
		m := memberlist.NewMap[string, int]()
		m.Set("entry", 1)
		return m, false, nil
	}); err != nil {
		t.Fatal(err)
	}
	cfg := factory.NewConfig()
	if err := cfg.Load(strings.NewReader("{backend: inmemory, inmemory: {name: multi-gossip-test}}")); err != nil {
		t.Fatal(err)
	}
	secondary, err := factory.New(t.Context(), cfg, &restless{}, factory.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer secondary.Close()
	if err := secondary.CAS(t.Context(), "k", func(in any) (any, bool, error) { return in, false, nil }); err != nil {
		t.Fatal(err)
	}
	if totals, err := c.Repair(t.Context()); err != nil || totals.Copied > 0 || totals.Keys != 1 {
		t.Errorf("a repair copied %+v, %v", totals, err)
	}
}

// restless is a codec of maps that never encodes one to the same bytes twice.
type restless struct {
	memberlist.MapCodec[string, int]

	encoded atomic.Uint64
}

func (r *restless) Encode(value any) ([]byte, error) {
	data, err := r.MapCodec.Encode(value)
	return binary.BigEndian.AppendUint64(data, r.encoded.Add(1)), err
}

func (r *restless) Decode(data []byte) (any, error) {
	return r.MapCodec.Decode(data[:max(0, len(data)-8)])
}

// What only a client over two stores offers is found through the prefix and the
// metrics that the factory puts around it.
func TestTwoStoresAreFoundInside(t *testing.T) {
	cfg := factory.NewConfig()
	if err := cfg.Load(strings.NewReader("prefix: below/\n" + twoStores)); err != nil {
		t.Fatal(err)
	}
	client, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{Registerer: prometheus.NewPedanticRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	m, ok := kv.As[*multi.Client](client)
	if !ok {
		t.Fatalf("there is no client over two stores in a %T", client)
	}
	if err := m.SetPrimary(t.Context(), "new"); err != nil || m.Status().Primary != "new" || m.Ready(t.Context()) != nil {
		t.Errorf("%v, %+v", err, m.Status())
	}
	if page := progress.Handler(m); page == nil {
		t.Error("there is no page of it")
	}
}

// What is wanted of clients is read from a file, again and again.
func TestWantedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wanted.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]string{
		"primary: new": "", "{primary: new, mirror: false, wait: 3m, expect_clients: 2, max_pause: 1s, allow: []}": "",
		"stage: moved":             "stage: it is for coordinated clients",
		"mirror: true":             "primary is missing",
		"{primary: new, speed: 3}": "field speed not found",
	} {
		write(text)
		u, err := factory.LoadWanted(file)
		if want == "" && (err != nil || u.Primary != "new" || (u.Mirror == nil) != (text == "primary: new")) || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file)) {
			t.Errorf("%s: %+v, %v", text, u, err)
		}
	}
	if _, err := factory.LoadWanted(file + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	cfg := factory.NewConfig()
	if err := cfg.Load(strings.NewReader(twoStores)); err != nil {
		t.Fatal(err)
	}
	cfg.Multi.WantedFile, cfg.Multi.Coordinated = file, true
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "multi.wanted_file: a coordinated client goes by") {
		t.Error(err)
	}
	cfg.Multi.Coordinated = false
	write("primary: new")
	client, err := factory.New(t.Context(), cfg, codec.Bytes{}, factory.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	m, found := kv.As[*multi.Client](client)
	if !found || m.Primary() != "new" {
		t.Fatalf("it begins with %v", m.Primary())
	}
	write("primary: old")
	for deadline := time.Now().Add(time.Minute); m.Primary() != "old"; time.Sleep(10 * time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			t.Fatal("it does not follow")
		}
	}
}
