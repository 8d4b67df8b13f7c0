package factory_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/factory"
)

func TestFlagsOverEnvironmentOverFile(t *testing.T) {
	t.Setenv("TEST_CLIENT_SCAN_PAGE", "8")
	t.Setenv("TEST_CLIENT_MAX_ATTEMPTS", "8")
	t.Setenv("TEST_BOLT_HOSTS", "e1,e2")
	t.Setenv("TEST_BOLT_KEY", "envkey")
	t.Setenv("TEST_BOLT_SYNC", "true")
	t.Setenv("TEST_BOLT_PATH", "") // counts as not set
	t.Setenv("TEST_MULTI_PRIMARY_BOLT_PATH", "side")
	const file = "client: {scan_page: 7, max_attempts: 7, retry_timeout: 7s}\nbolt: {path: file, hosts: [f1, f2], key: filekey}"
	cfgAfter := func(order []int) *factory.Config {
		cfg := withBolt().NewConfig()
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		cfg.RegisterFlags(fs, "kv.")
		steps := []func() error{
			func() error { return cfg.Load(strings.NewReader(file)) },
			func() error { return cfg.LoadEnv("TEST_") },
			func() error { return fs.Parse([]string{"--kv.client.scan-page=9"}) },
		}
		for _, step := range order {
			if err := steps[step](); err != nil {
				t.Fatal(err)
			}
		}
		return cfg
	}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}, {1, 1, 2, 0}} {
		cfg := cfgAfter(order)
		bolt := cfg.Section("bolt").(*boltConfig)
		if cfg.Client.ScanPage != 9 {
			t.Errorf("%v: the flag doesn't win: %v", order, cfg)
		}
		if cfg.Client.MaxAttempts != 8 || !slices.Equal(bolt.Hosts, []string{"e1", "e2"}) || bolt.Key.Reveal() != "envkey" || !bolt.Sync {
			t.Errorf("%v: variables don't win over the file: %v", order, cfg)
		}
		if cfg.Client.RetryTimeout != 7*time.Second || bolt.Path != "file" || bolt.Wait != time.Second {
			t.Errorf("%v: the file or the defaults are gone: %v", order, cfg)
		}
		if side := cfg.Multi.Primary.Section("bolt").(*boltConfig); side.Path != "side" {
			t.Errorf("%v: one of two stores has the path %q", order, side.Path)
		}
	}
}

func TestWrongVariables(t *testing.T) {
	for _, c := range []struct{ name, value, want string }{
		{"TEST_CLIENT_SCAN_PAGE", "hunter2", `client.scan_page: the environment variable TEST_CLIENT_SCAN_PAGE is not a whole number`},
		{"TEST_BOLT_WAIT", "hunter2", `bolt.wait: the environment variable TEST_BOLT_WAIT is not a duration; write it like`},
		{"TEST_BOLT_SYNC", "hunter2", `bolt.sync: the environment variable TEST_BOLT_SYNC is not true or false`},
		{"TEST_BOLT_FILL", "hunter2", `bolt.fill: the environment variable TEST_BOLT_FILL is not a number`},
		{"TEST_BOLT_MASK", "hunter2", `bolt.mask: the environment variable TEST_BOLT_MASK is wrong: it must be a mask`},
		{"TEST_BOLT_KYE", "hunter2", `the environment variable TEST_BOLT_KYE is for no field, did you mean TEST_BOLT_KEY?`},
		{"TEST_BOLT_NOTHING_LIKE_IT", "hunter2", `the environment variable TEST_BOLT_NOTHING_LIKE_IT is for no field`},
		{"TEST_BAKEND", "hunter2", `TEST_BAKEND is for no field, did you mean TEST_BACKEND?`},
		{"TEST_SERVICE", "x", ""},
		{"TEST_ETCD", "/usr/bin/etcd", ""}, // no field of the section
		{"TEST_BOLT_SERVICE_HOST", "10.0.0.1", ""},
		{"TEST_BOLT_SERVICE_PORT", "80", ""},
		{"TEST_BOLT_SERVICE_PORT_HTTP", "80", ""},
		{"TEST_BOLT_PORT", "tcp://10.0.0.1:80", ""},
		{"TEST_BOLT_PORT_80_TCP_ADDR", "10.0.0.1", ""},
		{"TEST_PORT", "tcp://10.0.0.1:80", ""},
		{"OTHER_BOLT_KYE", "x", ""},
		{"TEST_POSTGRES_PASSWORD", "x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(c.name, c.value)
			err := withBolt().NewConfig().LoadEnv("TEST_")
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, c.want)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the value is in %q", err)
			}
		})
	}
}

// No two flags have the same variable.
func TestVariablesAreDistinct(t *testing.T) {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	withBolt().NewConfig().RegisterFlags(fs, "")
	seen := map[string]string{}
	fs.VisitAll(func(f *pflag.Flag) {
		name := strings.NewReplacer(".", "_", "-", "_").Replace(f.Name)
		if other := seen[name]; other != "" {
			t.Errorf("%s and %s have the same variable", f.Name, other)
		}
		seen[name] = f.Name
	})
}

func TestExpansion(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2 ${TEST_WAIT}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_WAIT", "5s")
	t.Setenv("TEST_PAGES", "7")
	t.Setenv("TEST_EMPTY", "")
	t.Setenv("TEST_HOSTS", "a, b,")
	t.Setenv("TEST_TILDE", "~")
	t.Setenv("TEST_DOLLARS", "${TEST_WAIT}$$")
	for _, c := range []struct {
		yaml string
		got  func(*factory.Config, *boltConfig) any
		want any
	}{
		{"bolt: {wait: \"${TEST_WAIT}\"}", func(_ *factory.Config, b *boltConfig) any { return b.Wait }, 5 * time.Second},
		{"bolt:\n  wait: ${TEST_WAIT}", func(_ *factory.Config, b *boltConfig) any { return b.Wait }, 5 * time.Second},
		{"bolt:\n  pages: ${TEST_PAGES}0", func(_ *factory.Config, b *boltConfig) any { return b.Pages }, 70},
		{"bolt:\n  pages: '${TEST_PAGES}'", func(_ *factory.Config, b *boltConfig) any { return b.Pages }, 7},
		{"bolt:\n  path: ${TEST_PAGES}", func(_ *factory.Config, b *boltConfig) any { return b.Path }, "7"},
		{"bolt:\n  path: ${TEST_TILDE}", func(_ *factory.Config, b *boltConfig) any { return b.Path }, "~"},
		{"bolt:\n  path: /${TEST_PAGES}/${TEST_WAIT}$", func(_ *factory.Config, b *boltConfig) any { return b.Path }, "/7/5s$"},
		{"bolt: {path: x}\nprefix: ${TEST_EMPTY}", func(c *factory.Config, _ *boltConfig) any { return c.Prefix }, ""},
		{"bolt:\n  key: ${TEST_PAGES}", func(_ *factory.Config, b *boltConfig) any { return b.Key.Reveal() }, "7"},
		{"bolt:\n  key: ${file:" + secret + "}", func(_ *factory.Config, b *boltConfig) any { return b.Key.Reveal() }, "hunter2 ${TEST_WAIT}"},
		{"bolt:\n  key: ${TEST_DOLLARS}", func(_ *factory.Config, b *boltConfig) any { return b.Key.Reveal() }, "${TEST_WAIT}$$"},
		{"bolt:\n  key: pa$$word$HOME$", func(_ *factory.Config, b *boltConfig) any { return b.Key.Reveal() }, "pa$$word$HOME$"},
		{"bolt:\n  key: $${TEST_WAIT}", func(_ *factory.Config, b *boltConfig) any { return b.Key.Reveal() }, "${TEST_WAIT}"},
		{"bolt:\n  key: a$${b ${TEST_WAIT} $${", func(_ *factory.Config, b *boltConfig) any { return b.Key.Reveal() }, "a${b 5s ${"},
		{"bolt: {hosts: ['${TEST_WAIT}', b]}", func(_ *factory.Config, b *boltConfig) any { return fmt.Sprint(b.Hosts) }, "[5s b]"},
		{"bolt:\n  hosts: ${TEST_HOSTS}", func(_ *factory.Config, b *boltConfig) any { return fmt.Sprint(b.Hosts) }, "[a b]"},
		{"bolt: {labels: {\"${TEST_WAIT}\": {name: x}}}", func(_ *factory.Config, b *boltConfig) any { return b.Labels["${TEST_WAIT}"].Name }, "x"},
		{"bolt:\n  self: {at: [\"${TEST_PAGES}\", {x: \"${TEST_WAIT}\"}]}", func(_ *factory.Config, b *boltConfig) any { return b.Self.text }, "[7 map[x:5s]]"},
		{"multi:\n  primary:\n    prefix: ${TEST_WAIT}/", func(c *factory.Config, _ *boltConfig) any { return c.Multi.Primary.Prefix }, "5s/"},
	} {
		cfg := withBolt().NewConfig()
		cfg.Prefix = "before/"
		if err := cfg.Load(strings.NewReader(c.yaml)); err != nil {
			t.Errorf("%s: %v", c.yaml, err)
			continue
		}
		if got := c.got(cfg, cfg.Section("bolt").(*boltConfig)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.yaml, got, c.want)
		}
	}
}

func TestExpansionThatFails(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_EMPTY", "")
	t.Setenv("TEST_WORD", "hunter2")
	for _, c := range []struct{ yaml, want string }{
		{"bolt:\n  key: ${TEST_UNSET}", `line 2: bolt.key: ${TEST_UNSET}: the environment variable TEST_UNSET is not set`},
		{"bolt:\n  path: a${TEST_UNSET}", `line 2: bolt.path: ${TEST_UNSET}: the environment variable TEST_UNSET is not set; for a "${" that is meant as it stands write "$${"`},
		{"bolt:\n  hosts: ['${TEST_UNSET}']", `line 2: bolt.hosts[0]: ${TEST_UNSET}: `},
		{"bolt:\n  hosts: ${TEST_UNSET}", `line 2: bolt.hosts: ${TEST_UNSET}: `},
		{"bolt:\n  pages: ${TEST_UNSET}", `line 2: bolt.pages: ${TEST_UNSET}: `},
		{"bolt:\n  pages: ${TEST_EMPTY}", `line 2: bolt.pages: "${TEST_EMPTY}" is not a whole number`},
		{"bolt:\n  self: {at: ['${TEST_UNSET}']}", `line 2: bolt.self: ${TEST_UNSET}: `},
		{"bolt:\n  self: &s {at: *s}", `line 2: bolt.self: nested too deeply`},
		{"bolt:\n  key: ${hunter2 }", `line 2: bolt.key: "${" begins the name of an environment variable, as in ${NAME}, or the path of a file, as in ${file:/run/secrets/name}`},
		{"bolt:\n  key: '${hunter2'", `line 2: bolt.key: "${" begins the name`},
		{"bolt:\n  key: '${}'", `line 2: bolt.key: "${" begins the name`},
		{"bolt:\n  key: ${file:}", `line 2: bolt.key: "${" begins the name`},
		{"bolt:\n  key: ${file:/missing/secret}", `line 2: bolt.key: ${file:/missing/secret}: open /missing/secret: no such file`},
		{"bolt:\n  key: ${file:" + large + "}", `the file has more than 1048576 bytes`},
		{"bolt:\n  sync: ${TEST_WORD}", `line 2: bolt.sync: "${TEST_WORD}" is not true or false`},
	} {
		err := withBolt().NewConfig().Load(strings.NewReader(c.yaml))
		wantError(t, err, c.want)
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the secret is in %q", err)
		}
	}
}

// A program that uses the standard library's flags.
func TestStandardFlags(t *testing.T) {
	cfg := withBolt().NewConfig()
	cfg.Section("bolt").(*boltConfig).Hosts = nil
	fs := flag.NewFlagSet("program", flag.ContinueOnError)
	var usage strings.Builder
	fs.SetOutput(&usage)
	cfg.RegisterFlagsStd(fs, "kv.")
	if err := fs.Parse([]string{"-kv.bolt.sync", "--kv.backend=bolt", "-kv.bolt.wait", "3s", "-kv.bolt.hosts", "a,b", "-kv.client.scan-page=9"}); err != nil {
		t.Fatal(err)
	}
	if err := cfg.Load(strings.NewReader("backend: self\nbolt: {path: file, wait: 1h}")); err != nil {
		t.Fatal(err)
	}
	bolt := cfg.Section("bolt").(*boltConfig)
	if cfg.Backend != "bolt" || !bolt.Sync || bolt.Wait != 3*time.Second || !slices.Equal(bolt.Hosts, []string{"a", "b"}) || cfg.Client.ScanPage != 9 || bolt.Path != "file" {
		t.Errorf("got %v", cfg)
	}
	fs.PrintDefaults()
	for _, want := range []string{"-kv.backend store\n", "-kv.bolt.sync\n", "(default 1s)", "-kv.multi.primary.bolt.path"} {
		if !strings.Contains(usage.String(), want) {
			t.Errorf("%q is missing in\n%s", want, usage.String())
		}
	}
	for _, unwanted := range []string{"panic", "(default )", "(default 0)", "(default 0s)", "(default [])", "(default false)"} {
		if strings.Contains(usage.String(), unwanted) {
			t.Errorf("%q is in the usage", unwanted)
		}
	}
}
