package factory_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/factory"
)

func TestValidateNamesTheField(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*factory.Config)
		want   string
	}{
		{"no backend", func(c *factory.Config) { c.Backend = "" }, `backend: not set; choose one of: bolt, `},
		{"unknown backend", func(c *factory.Config) { c.Backend = "bold" }, `backend: unknown backend "bold", did you mean "bolt"?; choose one of: bolt, `},
		{"far-off backend", func(c *factory.Config) { c.Backend = "postgres" }, `backend: unknown backend "postgres"; choose one of: bolt, `},
		{"prefix", func(c *factory.Config) { c.Prefix = "a" }, `prefix: invalid key: the prefix "a" must be empty or end in "/"`},
		{"client", func(c *factory.Config) { c.Client.ScanPage = -1 }, "client.scan_page: -1 must not be negative"},
		{"client duration", func(c *factory.Config) { c.Client.RetryTimeout = -time.Second }, "client.retry_timeout: -1s must not be negative"},
		{"backoff", func(c *factory.Config) { c.Client.MinBackoff = time.Hour }, "client.min_backoff: 1h0m0s is longer than max_backoff, 1s"},
		{"section", func(c *factory.Config) { c.Section("bolt").(*boltConfig).Path = "" }, "bolt.path: a file name is needed"},
		{"section, plain error", func(c *factory.Config) { c.Section("bolt").(*boltConfig).Wait = -1 }, "bolt.wait: must not be negative"},
		{"section, no field", func(c *factory.Config) { c.Section("bolt").(*boltConfig).Pages = -1 }, "bolt: odd: this is no field"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := withBolt().NewConfig()
			cfg.Backend = "bolt"
			cfg.Section("bolt").(*boltConfig).Path = "/data"
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			c.change(cfg)
			wantError(t, cfg.Validate(), c.want)
			_, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
			wantError(t, err, c.want)
			if !errors.As(err, new(*factory.FieldError)) {
				t.Errorf("%T is no FieldError", err)
			}
		})
	}
}

// Every option of the client that isn't wired by New has a field with its default.
func TestClientConfigHasEveryOption(t *testing.T) {
	options := reflect.ValueOf(kv.DefaultOptions())
	fields := reflect.ValueOf(factory.DefaultClientConfig())
	for i := range options.NumField() {
		name := options.Type().Field(i).Name
		switch name {
		case "Backend", "Logger", "Observer", "AttemptTimeout": // AttemptTimeout's default is the driver's
			continue
		}
		field := fields.FieldByName(name)
		if !field.IsValid() || !field.Equal(options.Field(i)) {
			t.Errorf("%s is %v, want %v", name, field, options.Field(i))
		}
	}
}

// A pause whose longest is the default may be set alone.
func TestBackoffOfWhichOneIsSet(t *testing.T) {
	cfg := factory.NewConfig()
	cfg.Backend, cfg.Client.MinBackoff, cfg.Client.MaxBackoff = "inmemory", time.Hour, 0
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestOnlyTheChosenSectionIsValidated(t *testing.T) {
	cfg := withBolt().NewConfig()
	cfg.Backend = "inmemory" // and bolt has no path
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestFlagsOverFileOverDefaults(t *testing.T) {
	const file = "backend: self\nclient: {scan_page: 7, max_attempts: 7}\nbolt: {path: file, hosts: [f1, f2], key: filekey}"
	args := []string{
		"--kv.backend=bolt", "--kv.client.scan-page", "9", "--kv.bolt.hosts=a,b", "--kv.bolt.hosts=c",
		"--kv.bolt.key=flagkey", "--kv.bolt.sync",
	}
	for _, order := range []string{"file first", "flags first"} {
		t.Run(order, func(t *testing.T) {
			cfg := withBolt().NewConfig()
			fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
			cfg.RegisterFlags(fs, "kv.")
			steps := []func() error{
				func() error { return cfg.Load(strings.NewReader(file)) },
				func() error { return fs.Parse(args) },
			}
			if order == "flags first" {
				slices.Reverse(steps)
			}
			for _, step := range steps {
				if err := step(); err != nil {
					t.Fatal(err)
				}
			}
			bolt := cfg.Section("bolt").(*boltConfig)
			if cfg.Backend != "bolt" || cfg.Client.ScanPage != 9 || !slices.Equal(bolt.Hosts, []string{"a", "b", "c"}) ||
				bolt.Key.Reveal() != "flagkey" || !bolt.Sync {
				t.Errorf("flags don't win: %v %v", cfg, bolt.Hosts)
			}
			if cfg.Client.MaxAttempts != 7 || bolt.Path != "file" {
				t.Errorf("the file doesn't win over the defaults: %v", cfg)
			}
			if bolt.Wait != time.Second || cfg.Client.RetryTimeout != 10*time.Second {
				t.Errorf("the defaults are gone: %v", cfg)
			}
		})
	}
}

func TestWrongFlags(t *testing.T) {
	for _, c := range []struct{ arg, want string }{
		{"--bolt.wait=soon", `invalid argument "soon" for "--bolt.wait" flag`},
		{"--client.scan-page=x", `invalid argument "x" for "--client.scan-page" flag`},
		{"--bolt.wat=1s", "unknown flag: --bolt.wat"},
	} {
		cfg := withBolt().NewConfig()
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		cfg.RegisterFlags(fs, "")
		wantError(t, fs.Parse([]string{c.arg}), c.want)
	}
}

func TestFlagsShowDefaultsAndChoices(t *testing.T) {
	cfg := withBolt().NewConfig()
	cfg.Section("bolt").(*boltConfig).Key = config.NewSecret("hunter2")
	cfg.Section("bolt").(*boltConfig).Hosts = nil
	cfg.Client.SlowCallback = 0
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	cfg.RegisterFlags(fs, "kv.")
	usage := fs.FlagUsages()
	for _, want := range []string{"--kv.backend store", "bolt, ", "--kv.bolt.wait duration", "(default 1s)", "--kv.client.retry-timeout duration"} {
		if !strings.Contains(usage, want) {
			t.Errorf("%q is missing in\n%s", want, usage)
		}
	}
	for _, unwanted := range []string{"hunter2", "(default 0s)", "(default [])"} {
		if strings.Contains(usage, unwanted) {
			t.Errorf("%q is in\n%s", unwanted, usage)
		}
	}
}

func TestPrintingRedacts(t *testing.T) {
	cfg := withBolt().NewConfig()
	cfg.Backend = "bolt"
	bolt := cfg.Section("bolt").(*boltConfig)
	bolt.Key, bolt.Path = config.NewSecret("hunter2"), "/data"

	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("start", "config", cfg)
	slog.New(slog.NewTextHandler(&log, nil)).Info("start", "config", *cfg)
	asJSON, errJSON := json.Marshal(map[string]any{"config": cfg})
	asYAML, errYAML := yaml.Marshal(map[string]any{"config": *cfg})
	if err := errors.Join(errJSON, errYAML); err != nil {
		t.Fatal(err)
	}
	printed := map[string]string{"slog": log.String(), "JSON": string(asJSON), "YAML": string(asYAML)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed[verb] = fmt.Sprintf(verb, cfg) + fmt.Sprintf(verb, *cfg) + fmt.Sprintf(verb, []*factory.Config{cfg})
	}
	for how, text := range printed {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("%s shows the secret: %s", how, text)
		}
		if strings.HasPrefix(how, "%") && strings.Contains(text, "0xc0") {
			t.Errorf("%s shows pointers: %s", how, text)
		}
		if !strings.Contains(text, "/data") || !strings.Contains(text, "redacted") {
			t.Errorf("%s lacks the path, or the place of the secret: %s", how, text)
		}
	}
}

func TestYAMLRoundTrip(t *testing.T) {
	cfg := withBolt().NewConfig()
	cfg.Backend, cfg.Client.RetryTimeout = "bolt", 1500*time.Millisecond
	text, err := yaml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	again := withBolt().NewConfig()
	if err := again.Load(bytes.NewReader(text)); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if got, want := again.String(), cfg.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTarget(t *testing.T) {
	cfg := withBolt().NewConfig()
	if got := cfg.Target(); got != (factory.Target{}) {
		t.Errorf("no backend: %v", got)
	}
	cfg.Backend = "bolt"
	cfg.Section("bolt").(*boltConfig).Path = "/data"
	if got := cfg.Target(); got.Address != "/data" || got.DialTimeout != time.Second {
		t.Errorf("got %v", got)
	}
	cfg.Backend = "consul"
	if got := cfg.Target(); got.DialTimeout < 8*time.Second {
		t.Errorf("%v: what a server of Consul without a leader says after 7 s isn't waited for", got)
	}
	if cfg.Section("nothing") != nil {
		t.Error("a section of nothing")
	}
}

func TestOpeningFails(t *testing.T) {
	cfg := withBolt().NewConfig()
	cfg.Backend = "bolt"
	cfg.Section("bolt").(*boltConfig).Path = "/missing"
	_, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
	wantError(t, err, "bolt.path: no such file")
	cfg.Section("bolt").(*boltConfig).Path = "/data"
	_, err = factory.New(t.Context(), cfg, nil, factory.Deps{})
	wantError(t, err, "must not be nil")
	cfg.Prefix = strings.Repeat("p", 511) + "/"
	_, err = factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
	wantError(t, err, "prefix: ", "leaves no room")
	if !errors.Is(err, kv.ErrInvalidKey) {
		t.Errorf("%v is no ErrInvalidKey", err)
	}
}

// swaps counts what an Observer is told.
type swaps struct {
	kv.NopObserver
	n int
}

func (s *swaps) Swap(context.Context, string, string, int) { s.n++ }

func TestNewWiresPrefixObserverAndLogger(t *testing.T) {
	ctx := context.Background()
	var log bytes.Buffer
	observer := &swaps{}
	cfg := withBolt().NewConfig()
	cfg.Backend = "bolt"
	cfg.Section("bolt").(*boltConfig).Path = "/data"
	whole, err := factory.New(ctx, cfg, codec.String{}, factory.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	cfg.Prefix = "app/"
	cfg.Client.MaxValueSize = 10
	part, err := factory.New(ctx, cfg, codec.String{}, factory.Deps{Observer: observer, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()

	mustPut(t, part, "key", "value")
	if got, err := whole.List(ctx, "app/"); err != nil || !slices.Equal(got, []string{"app/key"}) {
		t.Errorf("List: %q, %v", got, err)
	}
	if observer.n != 1 {
		t.Errorf("the observer was told of %d swaps", observer.n)
	}
	if !strings.Contains(log.String(), "opened") {
		t.Errorf("the driver's log is %q", log.String())
	}
	err = part.CAS(ctx, "key", func(any) (any, bool, error) { return "longer than ten", false, nil })
	if !errors.Is(err, kv.ErrTooLarge) {
		t.Errorf("client.max_value_size has no effect: %v", err)
	}
	_, err = whole.Get(ctx, "/")
	wantError(t, err, "bolt: Get")
}

func TestMetricsAndObserverAreBothTold(t *testing.T) {
	reg := prometheus.NewRegistry()
	cfg := factory.NewConfig()
	cfg.Backend, cfg.InMemory.Name = "inmemory", t.Name()
	observer := &swaps{}
	for range 2 { // two clients share a registry
		client, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{Registerer: reg, Observer: observer})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		mustPut(t, client, "key", "value")
	}
	for metric, want := range map[string]int{"polykv_operation_duration_seconds": 1, "polykv_swaps_total": 1} {
		if n, err := testutil.GatherAndCount(reg, metric); err != nil || n < want {
			t.Errorf("%s: %d, %v", metric, n, err)
		}
	}
	if observer.n != 2 {
		t.Errorf("the observer was told of %d swaps", observer.n)
	}
}

func TestMetricsThatCannotBeRegistered(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "polykv_swaps_total"}))
	cfg := factory.NewConfig()
	cfg.Backend = "inmemory"
	if _, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{Registerer: reg}); err == nil {
		t.Error("no error")
	}
}

func TestNamedStoreIsShared(t *testing.T) {
	cfg := factory.NewConfig()
	cfg.Backend, cfg.InMemory.Name = "inmemory", t.Name()
	a, errA := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
	b, errB := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	mustPut(t, a, "key", "value")
	if got, err := b.Get(t.Context(), "key"); got != "value" || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	cfg.InMemory.MaxValueSize = 1
	_, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{})
	wantError(t, err, "inmemory: ", "open with other settings")
}

func TestEtcdSection(t *testing.T) {
	cfg := factory.NewConfig()
	err := cfg.Load(strings.NewReader("backend: etcd\netcd:\n  endpoints: [a.example:2379, b.example:2379]\n  dial_timeout: 2s"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (factory.Target{Address: "a.example:2379, b.example:2379", DialTimeout: 2 * time.Second}); cfg.Target() != want {
		t.Errorf("got %v, want %v", cfg.Target(), want)
	}
	client, err := factory.New(t.Context(), cfg, codec.String{}, factory.Deps{}) // contacts nobody
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	cfg.Etcd.DialTimeout = 0
	wantError(t, cfg.Validate(), "etcd.dial_timeout: 0s is not allowed")
	if got := factory.Builtin().Libraries(); !slices.Contains(got, "go.etcd.io/etcd/client/v3") {
		t.Errorf("libraries %q", got)
	}
}
