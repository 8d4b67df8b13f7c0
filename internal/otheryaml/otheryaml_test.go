package otheryaml

import (
	"reflect"
	"strings"
	"testing"
	"time"

	goccy "github.com/goccy/go-yaml"
	yamlv3 "go.yaml.in/yaml/v3"
	gopkgv2 "gopkg.in/yaml.v2"
	gopkgv3 "gopkg.in/yaml.v3"
	sigs "sigs.k8s.io/yaml"

	"github.com/polykv/polykv/kv/factory"
)

// program is a configuration that has polykv's as a part.
type program struct {
	Name string          `yaml:"name" json:"name"`
	KV   factory.Config  `yaml:"kv" json:"kv"`
	Last *factory.Config `yaml:"last" json:"last"`
}

// library is a way to read and to write YAML.
type library struct {
	unmarshal func([]byte, any) error
	marshal   func(any) ([]byte, error)
	lines     bool // mistakes have their lines
}

var libraries = map[string]library{
	"go.yaml.in/yaml/v3": {yamlv3.Unmarshal, yamlv3.Marshal, true},
	"gopkg.in/yaml.v3":   {gopkgv3.Unmarshal, gopkgv3.Marshal, false},
	"gopkg.in/yaml.v3, strict": {func(data []byte, v any) error {
		d := gopkgv3.NewDecoder(strings.NewReader(string(data)))
		d.KnownFields(true)
		return d.Decode(v)
	}, gopkgv3.Marshal, false},
	"gopkg.in/yaml.v2":         {gopkgv2.Unmarshal, gopkgv2.Marshal, false},
	"gopkg.in/yaml.v2, strict": {gopkgv2.UnmarshalStrict, gopkgv2.Marshal, false},
	"goccy/go-yaml":            {func(data []byte, v any) error { return goccy.Unmarshal(data, v) }, func(v any) ([]byte, error) { return goccy.Marshal(v) }, false},
	"sigs.k8s.io/yaml":         {func(data []byte, v any) error { return sigs.Unmarshal(data, v) }, sigs.Marshal, false},
	"sigs.k8s.io/yaml, strict": {func(data []byte, v any) error { return sigs.UnmarshalStrict(data, v) }, sigs.Marshal, false},
}

func each(t *testing.T, test func(t *testing.T, name string, l library)) {
	for name, l := range libraries {
		t.Run(name, func(t *testing.T) { test(t, name, l) })
	}
}

const text = `name: shop
kv:
  backend: etcd
  prefix: ${OTHERYAML_PREFIX}
  client: {scan_page: 7, retry_timeout: 4s, max_attempts: null}
  etcd:
    endpoints: [a:1, b:2]
    username: &u "0123"
    password: *u
    serializable_reads: true
    tls: {server_name: "${OTHERYAML_PREFIX}"}
  multi:
    primary: {backend: inmemory, inmemory: {name: one}}
    mirror: false
`

func TestReads(t *testing.T) {
	t.Setenv("OTHERYAML_PREFIX", "env/")
	want := factory.NewConfig()
	if err := want.Load(strings.NewReader(strings.ReplaceAll(strings.SplitN(text, "kv:\n", 2)[1], "\n  ", "\n")[2:])); err != nil {
		t.Fatal(err)
	}
	if want.Prefix != "env/" || want.Etcd.Password.Reveal() != "0123" || want.Client.MaxAttempts == 0 || want.Client.RetryTimeout != 4*time.Second {
		t.Fatalf("got %v", want)
	}
	each(t, func(t *testing.T, _ string, l library) {
		var p program
		if err := l.unmarshal([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		if p.Name != "shop" || p.KV.String() != want.String() || p.KV.Etcd.Password.Reveal() != "0123" {
			t.Errorf("got %v, %q, want %v", p.KV, p.KV.Etcd.Password.Reveal(), want)
		}
		if p.Last != nil {
			t.Error("what isn't there was read")
		}
		if !reflect.DeepEqual(p.KV.Consul, want.Consul) {
			t.Errorf("the defaults are gone: %v", p.KV)
		}
	})
}

// A password of digits is its digits, or an error that says how to write it.
func TestDigitsAreNotTakenForNumbers(t *testing.T) {
	each(t, func(t *testing.T, name string, l library) {
		for _, password := range []string{"0123", "1e3", "0x1f", "12345678901234567890123", "1.50", "2026-01-02"} {
			var p program
			err := l.unmarshal([]byte("kv:\n  etcd: {password: "+password+"}"), &p)
			switch {
			case err != nil && !strings.Contains(err.Error(), "etcd.password: want text; write it in quotes"):
				t.Errorf("%s: %v", password, err)
			case err != nil && !strings.HasPrefix(name, "sigs"):
				t.Errorf("%s: %v", password, err)
			case err == nil && p.KV.Etcd.Password.Reveal() != password:
				t.Errorf("%s was read as %s", password, p.KV.Etcd.Password.Reveal())
			}
		}
	})
}

func TestMistakes(t *testing.T) {
	each(t, func(t *testing.T, name string, l library) {
		for _, c := range []struct{ yaml, line, want string }{
			{"kv:\n  bakend: etcd", "line 2: ", `bakend: unknown field, did you mean "backend"?`},
			{"kv:\n  etcd:\n    pasword: hunter2", "line 3: ", `etcd.pasword: unknown field, did you mean "password"?`},
			{"kv:\n  multi: {primary: {etcd: {pasword: hunter2}}}", "line 2: ", `multi.primary.etcd.pasword: unknown field`},
			{"kv:\n  etcd: {dial_timeout: soon}", "line 2: ", `etcd.dial_timeout: "soon" is not a duration`},
			{"kv:\n  client: {scan_page: 1.5}", "line 2: ", `client.scan_page: "1.5" is not a whole number`},
			{"kv:\n  etcd: {endpoints: {a: b}}", "line 2: ", `etcd.endpoints: want a list`},
			{"kv:\n  etcd: {password: [hunter2]}", "line 2: ", `etcd.password: `},
			{"kv: hunter2", "line 1: ", `want fields`},
			{"kv:\n  etcd:\n    password: ${OTHERYAML_UNSET}", "line 3: ", `etcd.password: ${OTHERYAML_UNSET}: the environment variable OTHERYAML_UNSET is not set`},
			{"kv:\n  prefix: a/\n  prefix: b/", "line 3: ", ``},
		} {
			var p program
			err := l.unmarshal([]byte(c.yaml), &p)
			switch {
			case err == nil:
				if c.want != "" || name != "sigs.k8s.io/yaml" && name != "gopkg.in/yaml.v2" { // which drop the first of two without a word
					t.Errorf("%q: no error", c.yaml)
				}
			case !strings.Contains(err.Error(), c.want):
				t.Errorf("%q: got %v, want %q", c.yaml, err, c.want)
			case l.lines && !strings.Contains(err.Error(), c.line):
				t.Errorf("%q: got %v, want %q", c.yaml, err, c.line)
			case strings.Contains(err.Error(), "hunter2") && !strings.HasPrefix(name, "goccy"): // which shows the text of the file
				t.Errorf("%q: the secret is in %v", c.yaml, err)
			}
		}
	})
}

// What one library writes every library reads, and no secret is in it.
func TestWrites(t *testing.T) {
	var p program
	p.KV = *factory.NewConfig()
	p.KV.Backend = "etcd"
	p.KV.Client.ScanPage = 7
	if err := p.KV.Etcd.Password.Set("hunter2"); err != nil {
		t.Fatal(err)
	}
	each(t, func(t *testing.T, _ string, l library) {
		written, err := l.marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(written), "hunter2") {
			t.Errorf("the secret is in\n%s", written)
		}
		for name, reader := range libraries {
			var again program
			if err := reader.unmarshal(written, &again); err != nil {
				t.Fatalf("%s: %v in\n%s", name, err, written)
			}
			if got, want := again.KV.String(), p.KV.String(); got != want {
				t.Errorf("%s: got %s, want %s", name, got, want)
			}
		}
	})
}
