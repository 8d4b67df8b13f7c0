package factory_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/factory"
)

const application = `name: shop
storage: &s
  kv:
    backend: bolt
    bolt:
      path: /data
      wait: 3s
  other: {kv: null}
copy: *s
`

func TestLoadFileSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.yaml")
	load := func(text, section string) (*factory.Config, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := withBolt().NewConfig()
		return cfg, cfg.LoadFileSection(path, section)
	}
	for _, section := range []string{"storage.kv", "copy.kv"} {
		cfg, err := load(application, section)
		if err != nil || cfg.Backend != "bolt" || cfg.Section("bolt").(*boltConfig).Path != "/data" {
			t.Errorf("%s: %v, %v", section, cfg, err)
		}
	}
	if cfg, err := load(application, "storage.other.kv"); err != nil || cfg.String() != withBolt().NewConfig().String() {
		t.Errorf("an empty section: %v, %v", cfg, err)
	}
	for _, c := range []struct{ text, section, want string }{
		{application, "storage.otter", path + `: line 2: storage.otter: there is no such section, did you mean "other"?; there is: kv, other`},
		{application, "nothing.kv", `line 1: nothing: there is no such section; there is: copy, name, storage`},
		{application, "name.kv", `line 1: name.kv: there is no such section; there is: none`},
		{"token:hunter2: x\nkv: {}", "kw", `line 1: kw: there is no such section, did you mean "kv"?; there is: kv, token`},
		{application, ".kv", `there is no such section`},
		{application, "", `line 1: name: unknown field`},
		{"", "storage.kv", `storage.kv: there is no such section; the document is empty`},
		{"storage:\n  kv:\n    bakend: bolt", "storage.kv", `line 3: storage.kv.bakend: unknown field, did you mean "backend"?`},
		{"kv: {backend: bolt}\nkv: {backend: self}", "kv", `line 2: kv: given a second time`},
		{"kv: [a]", "kv", `line 1: kv: want fields`},
	} {
		_, err := load(c.text, c.section)
		wantError(t, err, c.want)
		var field *factory.FieldError
		if !errors.As(err, &field) {
			t.Errorf("%v is no FieldError", err)
		}
	}
	wantError(t, factory.NewConfig().LoadFileSection("/missing.yaml", "a"), "/missing.yaml", "no such file")
}

func TestDecode(t *testing.T) {
	for _, text := range []string{"backend: etcd\netcd: {dial_timeout: 3s}", `{"backend": "etcd", "etcd": {"dial_timeout": "3s"}}`} {
		cfg, err := factory.Decode([]byte(text))
		if err != nil || cfg.Backend != "etcd" || cfg.Etcd.DialTimeout.Seconds() != 3 || cfg.Client != factory.DefaultClientConfig() {
			t.Errorf("%s: %v, %v", text, cfg, err)
		}
	}
	cfg, err := factory.Decode([]byte("bolt: {}"))
	if cfg != nil {
		t.Error("a configuration beside an error")
	}
	wantError(t, err, "line 1: bolt: unknown field")
	if cfg, err = withBolt().Decode([]byte("bolt: {path: x}")); err != nil || cfg.Section("bolt").(*boltConfig).Path != "x" {
		t.Errorf("%v, %v", cfg, err)
	}
}

func TestJSON(t *testing.T) {
	var program struct {
		Name string         `json:"name"`
		KV   factory.Config `json:"kv"` // the zero value: the built-in drivers
	}
	t.Setenv("TEST_PREFIX", "env/")
	err := json.Unmarshal([]byte(`{"name": "x", "kv": {"backend": "inmemory", "prefix": "${TEST_PREFIX}", "inmemory": {"name": "😀", "max_value_size": 5},
		"client": {"retry_timeout": "4s", "scan_page": null}, "multi": {"primary": {"prefix": "p/"}, "mirror": false}, "etcd": {"endpoints": ["a", "b"]}}}`), &program)
	cfg := program.KV
	if err != nil || cfg.InMemory.Name != "😀" || cfg.InMemory.MaxValueSize != 5 || cfg.Prefix != "env/" || cfg.Client.RetryTimeout.Seconds() != 4 ||
		cfg.Client.ScanPage != factory.DefaultClientConfig().ScanPage || cfg.Multi.Primary.Prefix != "p/" || cfg.Multi.Mirror || len(cfg.Etcd.Endpoints) != 2 {
		t.Errorf("%v, %v", cfg, err)
	}
	for _, c := range []struct{ text, want string }{
		{`{"bakend": "x"}`, `bakend: unknown field, did you mean "backend"?`},
		{`{"prefix": "a/", "prefix": "b/"}`, `prefix: given a second time`},
		{`{"bolt": {"key": 31337}}`, `bolt.key: want text; write it in quotes`},
		{`{"bolt": {"path": 31337}}`, `bolt.path: want text; write it in quotes`},
		{`{"bolt": {"path": true}}`, `bolt.path: want text; write it in quotes`},
		{`{"bolt": {"hosts": [31337]}}`, `bolt.hosts[0]: want text; write it in quotes`},
		{`{"bolt": {"pages": "x"}}`, `bolt.pages: "x" is not a whole number`},
		{`{"bolt": {"pages": 1.5}}`, `bolt.pages: "1.5" is not a whole number`},
		{`{"bolt": {"wait": 5}}`, `bolt.wait: "5" is not a duration`},
		{`{"bolt": {"key": ["hunter2"]}}`, `bolt.key: `},
		{`[1]`, `want fields`},
		{`{"multi": {"primary": {"bolt": {"key": 31337}}}}`, `multi.primary.bolt.key: want text; write it in quotes`},
	} {
		err := json.Unmarshal([]byte(c.text), withBolt().NewConfig())
		wantError(t, err, c.want)
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "31337")) {
			t.Errorf("the secret is in %q", err)
		}
	}
}

// What is printed as JSON can be read back.
func TestJSONRoundTrip(t *testing.T) {
	cfg := withBolt().NewConfig()
	cfg.Backend, cfg.Client.ScanPage = "bolt", 7
	cfg.Section("bolt").(*boltConfig).Key = config.NewSecret("hunter2")
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	again := withBolt().NewConfig()
	if err := json.Unmarshal(text, again); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if got, want := again.String(), cfg.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzJSON: whatever the text, reading it ends, with a configuration that can be
// printed and read again as the same, or with an error.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `null`, `{"backend": "bolt", "bolt": {"wait": "5s", "hosts": ["a"], "buckets": [{"name": "x", "fill": 1e3}], "tree": {"left": {}}}}`,
		`{"a": 1, "a": 2}`, `[1`, `{"prefix": "$${"}`, `{"client": {"scan_page": 123456789012345678901234567890}}`, `{"bolt": {"labels": {"": {"name": "\ud83d\ude00"}}}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg := withBolt().NewConfig()
		if json.Unmarshal([]byte(text), cfg) != nil || strings.Contains(text, "${") {
			return
		}
		printed := cfg.String()
		again := withBolt().NewConfig()
		if err := json.Unmarshal([]byte(printed), again); err != nil || again.String() != printed {
			t.Errorf("%q is printed as %s and read as %s, %v", text, printed, again, err)
		}
	})
}
