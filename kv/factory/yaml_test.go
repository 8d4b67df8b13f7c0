package factory_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/factory"
)

func TestYAMLFillsEverySection(t *testing.T) {
	cfg := withBolt().NewConfig()
	err := cfg.Load(strings.NewReader(`
backend: bolt
prefix: app/
client:
  retry_timeout: 4s
  max_attempts: 3
inmemory: {name: x}
bolt:
  path: /data
  sync: true
  key: hunter2
  buckets: [{name: a, fill: 0.5}, {name: b}]
  hosts: [two, three]
  labels: {l: {name: n}}
  tls: {ca: /ca.pem}
  region: north
self: # left empty
`))
	if err != nil {
		t.Fatal(err)
	}
	want := &boltConfig{
		Path: "/data", Wait: time.Second, Sync: true, Key: config.NewSecret("hunter2"),
		Buckets: []bucket{{"a", 0.5}, {Name: "b"}}, Hosts: []string{"two", "three"},
		Labels: map[string]bucket{"l": {Name: "n"}}, TLS: &boltTLS{CA: "/ca.pem"}, Common: Common{Region: "north"},
	}
	if got := cfg.Section("bolt"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	client := factory.DefaultClientConfig()
	client.RetryTimeout, client.MaxAttempts = 4*time.Second, 3
	if cfg.Backend != "bolt" || cfg.Prefix != "app/" || cfg.Client != client || cfg.InMemory.Name != "x" {
		t.Errorf("got %v", cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestYAMLMistakesHaveTheirLineAndField(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"unknown field", "backend: bolt\nprefx: a/", `line 2: prefx: unknown field, did you mean "prefix"?; known here: backend, bolt, client,`},
		{"unknown backend section", "backend: bolt\n\netdc: {}", `line 3: etdc: unknown field, did you mean "etcd"?`},
		{"unknown field in client", "client:\n  retry: 1s", `line 2: client.retry: unknown field; known here: attempt_timeout,`},
		{"hyphens for underscores", "client:\n  retry-timeout: 1s", `line 2: client.retry-timeout: unknown field, did you mean "retry_timeout"?`},
		{"unknown field in an added section", "bolt:\n  path: a\n  syn: true", `line 3: bolt.syn: unknown field, did you mean "sync"?`},
		{"unknown field in a list", "bolt:\n  buckets:\n  - name: a\n  - nam: b", `line 4: bolt.buckets[1].nam: unknown field, did you mean "name"?`},
		{"unknown field in a map", "bolt:\n  labels:\n    x: {nam: b}", `line 3: bolt.labels.x.nam: unknown field`},
		{"unknown field behind a pointer", "bolt:\n  tls:\n    cert: b", `line 3: bolt.tls.cert: unknown field`},
		{"a broken number", "client: {max_attempts: 1.5}", `line 1: client.max_attempts: "1.5" is not a whole number`},
		{"no number", "client: {max_attempts: .nan}", `line 1: client.max_attempts: ".nan" is not a whole number`},
		{"an ignored field", "bolt: {ignored: x}", `line 1: bolt.ignored: unknown field`},
		{"wrong duration", "client:\n  max_attempts: 1\n  retry_timeout: 5 parsecs", `line 3: client.retry_timeout: "5 parsecs" is not a duration; write it like 500ms, 10s or 1m30s`},
		{"duration without unit", "bolt: {wait: 5}", `line 1: bolt.wait: "5" is not a duration`},
		{"duration as list", "bolt: {wait: [5s]}", `line 1: bolt.wait: want a duration`},
		{"wrong number", "client: {max_attempts: many}", `line 1: client.max_attempts: "many" is not a whole number in range`},
		{"wrong float", "bolt: {buckets: [{fill: full}]}", `line 1: bolt.buckets[0].fill: "full" is not a number`},
		{"wrong bool", "bolt: {sync: maybe}", `line 1: bolt.sync: "maybe" is not true or false`},
		{"list for text", "bolt: {path: [a]}", `line 1: bolt.path: want a single value of text`},
		{"text for list", "bolt: {hosts: a}", `line 1: bolt.hosts: want a list, such as [a, b]`},
		{"text for a map", "bolt: {labels: a}", `line 1: bolt.labels: want names with values`},
		{"secret behind its name", "bolt: {path: /data, key:hunter2}", `line 1: bolt.key: there must be a space between a ":" and its value`},
		{"secret behind the name of a section", "bolt:\n  key: x\nother:hunter2: y", `line 3: other: there must be a space`},
		{"secret behind an equals sign", "bolt: {key=hunter2}", `line 1: bolt.key: unknown field, did you mean "key"?`},
		{"secret given twice", "bolt: {key=hunter2, key=hunter2}", `line 1: bolt.key: unknown field`},
		{"secret behind its name in a map", "bolt: {labels: {x:hunter2: {name: [a]}}}", `line 1: bolt.labels.x.name: want`},
		{"secret that looks like an alias", "bolt: {key: *hunter2}", `yaml: a value begins with "*" and names no anchor; if it is text, a password for example, write it in quotes`},
		{"list for a secret", "bolt: {key: [hunter2]}", `line 1: bolt.key: cannot unmarshal !!seq into a secret; it must be a string`},
		{"text for a section", "bolt: /data", `line 1: bolt: want fields, each on a line of its own`},
		{"list at the top", "- backend", `line 1: want fields`},
		{"given twice", "prefix: a/\nbackend: bolt\nprefix: b/", `line 3: prefix: given a second time, after line 1`},
		{"merge", "client: &c {max_attempts: 1}\nbolt:\n  <<: *c", `line 3: bolt: "<<" is not supported`},
		{"alias in itself", "bolt:\n  tree: &t\n    left: *t", `line 2: bolt.tree.left.left.left`},
		{"no YAML", "backend: bolt\n  prefix: a", `line 2`},
		{"two documents", "backend: bolt\n---\nprefix: a/", `more than one YAML document`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := withBolt().NewConfig().Load(strings.NewReader(c.yaml))
			wantError(t, err, c.want)
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the secret is in %q", err)
			}
		})
	}
}

func TestEmptyYAMLKeepsTheDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "client:\nbolt:\nprefix:\n"} {
		cfg := withBolt().NewConfig()
		if err := cfg.Load(strings.NewReader(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if got, want := cfg.String(), withBolt().NewConfig().String(); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestAliases(t *testing.T) {
	cfg := withBolt().NewConfig()
	if err := cfg.Load(strings.NewReader("client: {retry_timeout: &t 3s}\nbolt: {wait: *t}")); err != nil {
		t.Fatal(err)
	}
	if got := cfg.Section("bolt").(*boltConfig).Wait; got != 3*time.Second {
		t.Errorf("got %v", got)
	}
}

func TestConfigAsAFieldOfAProgramsOwn(t *testing.T) {
	var program struct {
		Name string         `yaml:"name"`
		KV   factory.Config `yaml:"kv"` // the zero value: the built-in drivers
	}
	err := yaml.Unmarshal([]byte("name: x\nkv:\n  backend: inmemory\n  inmemory: {name: y}\n"), &program)
	if err != nil || program.KV.Backend != "inmemory" || program.KV.InMemory.Name != "y" {
		t.Errorf("%v, %v", program.KV, err)
	}
	err = yaml.Unmarshal([]byte("name: x\nkv:\n  bakend: inmemory\n"), &program)
	wantError(t, err, `line 3: bakend: unknown field, did you mean "backend"?`)
	if program.KV.Client != factory.DefaultClientConfig() || !reflect.DeepEqual(program.KV.Etcd, etcd.DefaultConfig()) {
		t.Errorf("the defaults are missing in %v", program.KV)
	}
	var field *factory.FieldError
	if !errors.As(err, &field) || field.Line != 3 || field.Field != "bakend" {
		t.Errorf("got %#v", field)
	}
}

func TestLoadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "polykv.yaml")
	wantError(t, factory.NewConfig().LoadFile(path), path, "no such file")
	if err := os.WriteFile(path, []byte("backend: inmemory\nclient: {scan_page: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, factory.NewConfig().LoadFile(path), path+": line 2: client.scan_page: ")
}

// FuzzLoad: whatever the file holds, loading it ends, with a configuration that
// can be printed or with an error in one line that begins with the line number.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{
		"", "backend: bolt\nbolt: {wait: 5s, hosts: [a], buckets: [{name: x}], tree: &t {left: *t}}", "etcd:\n  endpoints: [a:1]\n",
		"client: {retry_timeout: 5 parsecs}", "a: *b", "? [x]\n: y", "bolt: {labels: {x: {fill: .inf}}}", "- 1", "--- !!binary x", "<<: {a: b}",
		"bolt: {? {a: b} : c}", "bolt: {labels: {[a]: {name: b}}}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		cfg := withBolt().NewConfig()
		err := cfg.Load(strings.NewReader(text))
		if printed := cfg.String(); !strings.HasPrefix(printed, "{") && err == nil {
			t.Errorf("%q is printed as %s", text, printed)
		}
		if errors.As(err, new(*factory.FieldError)) && !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("%q: no line in %q", text, err)
		}
	})
}
