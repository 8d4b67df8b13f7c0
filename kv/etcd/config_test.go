package etcd

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver/kit"
)

func TestValidate(t *testing.T) {
	const secret = "s3cr3t-in-the-url"
	for name, test := range map[string]struct {
		change func(*Config)
		want   []string // parts of the error; none: valid
	}{
		"default":          {func(*Config) {}, nil},
		"URLs":             {func(c *Config) { c.Endpoints = []string{"http://a:1", "http://[::1]:2/"} }, nil},
		"TLS URLs":         {func(c *Config) { c.Endpoints = []string{"https://a:1", "unixs:///run/etcd"} }, nil},
		"sockets":          {func(c *Config) { c.Endpoints = []string{"unix:///run/etcd", "a:1"} }, nil},
		"no endpoint":      {func(c *Config) { c.Endpoints = nil }, []string{"endpoints:", "at least one", "https://host:port"}},
		"empty endpoint":   {func(c *Config) { c.Endpoints = []string{""} }, []string{"endpoints[0]:", "host:port"}},
		"no port":          {func(c *Config) { c.Endpoints = []string{"a:1", "b"} }, []string{"endpoints[1]:", `"b"`, "host:port"}},
		"no host":          {func(c *Config) { c.Endpoints = []string{":2379"} }, []string{"endpoints[0]:"}},
		"bad port":         {func(c *Config) { c.Endpoints = []string{"a:70000"} }, []string{"endpoints[0]:", "1 to 65535"}},
		"path":             {func(c *Config) { c.Endpoints = []string{"http://a:1/v3"} }, []string{"endpoints[0]:"}},
		"list in a string": {func(c *Config) { c.Endpoints = []string{"a:1 b:2"} }, []string{"endpoints[0]:"}},
		"scheme":           {func(c *Config) { c.Endpoints = []string{"ftp://a:1"} }, []string{"endpoints[0]:", "unknown scheme", "https://host:port"}},
		"relative socket":  {func(c *Config) { c.Endpoints = []string{"unix://etcd"} }, []string{"endpoints[0]:", "absolute path"}},
		"twice":            {func(c *Config) { c.Endpoints = []string{"a:1", "b:1", "a:1"} }, []string{"endpoints[2]:", "twice"}},
		"mixed":            {func(c *Config) { c.Endpoints = []string{"https://a:1", "http://b:1"} }, []string{"endpoints[1]:", "TLS"}},
		"credentials":      {func(c *Config) { c.Endpoints = []string{"http://u:" + secret + "@a:1"} }, []string{"endpoints[0]:", "username"}},
		"user alone":       {func(c *Config) { c.Username = "u" }, []string{"password:"}},
		"password alone":   {func(c *Config) { c.Password = config.NewSecret(secret) }, []string{"username:"}},
		"two passwords":    {func(c *Config) { c.Username, c.Password, c.PasswordFile = "u", config.NewSecret(secret), "f" }, []string{"password_file:", "one of them"}},
		"file alone":       {func(c *Config) { c.PasswordFile = "f" }, []string{"username:", "password_file"}},
		"no password file": {func(c *Config) { c.Username, c.PasswordFile = "u", "/nowhere/password" }, []string{"password_file:", "/nowhere/password"}},
		"record":           {func(c *Config) { c.Endpoints = []string{"https://dnssrv+_etcd._tcp.example.com"} }, nil},
		"record with port": {func(c *Config) { c.Endpoints = []string{"dnssrv+_etcd._tcp.example.com:2379"} }, []string{"endpoints[0]:", "no port"}},
		"root":             {func(c *Config) { c.Root = "/a\n" }, []string{"root:", "control characters"}},
		"long root":        {func(c *Config) { c.Root = kit.Root(strings.Repeat("r", 300)) }, []string{"root:", "256"}},
		"sync interval":    {func(c *Config) { c.SyncInterval = -1 }, []string{"sync_interval:"}},
		"plain with TLS":   {func(c *Config) { c.Endpoints, c.TLS.Enabled = []string{"http://a:1"}, true }, []string{"tls.enabled:", "https://"}},
		"unused TLS file":  {func(c *Config) { c.Endpoints, c.TLS.CAFile = []string{"https://a:1"}, "ca.pem" }, []string{"tls.ca_file:"}},
		"missing TLS file": {func(c *Config) { c.TLS.Enabled, c.TLS.CAFile = true, "/nowhere/ca.pem" }, []string{"tls.ca_file:", "/nowhere/ca.pem"}},
		"dial timeout":     {func(c *Config) { c.DialTimeout = 0 }, []string{"dial_timeout:", "more than 0"}},
		"keepalive":        {func(c *Config) { c.KeepAliveTime = time.Second }, []string{"keepalive_time:", "at least 10s"}},
		"keepalive answer": {func(c *Config) { c.KeepAliveTimeout = -1 }, []string{"keepalive_timeout:", "more than 0"}},
		"request size":     {func(c *Config) { c.MaxRequestBytes = 100 }, []string{"max_request_bytes:", "8192 to 1073741824"}},
		"page size":        {func(c *Config) { c.ScanPageSize = 0 }, []string{"scan_page_size:", "more than 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			test.change(&cfg)
			err := cfg.Validate()
			if (err == nil) != (test.want == nil) {
				t.Fatal(err)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v: lacks %q", err, part)
				}
			}
			if err == nil {
				return
			}
			if text := err.Error(); strings.Contains(text, secret) || strings.Contains(text, "\n") {
				t.Errorf("%q", text)
			}
			if _, err := Open(cfg, nil); err == nil || !strings.HasPrefix(err.Error(), "etcd: ") {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

// Flags and YAML name the same fields, and every field has both.
func TestFlagsAndYAML(t *testing.T) {
	fromFlags, fromYAML := DefaultConfig(), DefaultConfig()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fromFlags.RegisterFlags(fs, "etcd.")
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		name := strings.ReplaceAll(f.Tag.Get("yaml"), "_", "-")
		if name == "tls" {
			name = "tls.enabled"
		}
		if flag := fs.Lookup("etcd." + name); name == "" || flag == nil || flag.Usage == "" {
			t.Errorf("field %s has no flag %q", f.Name, name)
		}
	}
	err := fs.Parse([]string{
		"--etcd.endpoints=a:1,b:2", "--etcd.username=u", "--etcd.password=p", "--etcd.tls.enabled",
		"--etcd.dial-timeout=1s", "--etcd.keepalive-time=20s", "--etcd.keepalive-timeout=2s",
		"--etcd.serializable-reads", "--etcd.max-request-bytes=10000", "--etcd.scan-page-size=7",
		"--etcd.sync-interval=1m", "--etcd.root=/app/",
	})
	if err != nil {
		t.Fatal(err)
	}
	err = yaml.Unmarshal([]byte(`{endpoints: ["a:1", "b:2"], username: u, password: p, tls: {enabled: true},
		dial_timeout: 1s, keepalive_time: 20s, keepalive_timeout: 2s,
		serializable_reads: true, max_request_bytes: 10000, scan_page_size: 7, sync_interval: 1m, root: /app/}`), &fromYAML)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fromFlags, fromYAML) || reflect.DeepEqual(fromFlags, DefaultConfig()) {
		t.Errorf("flags %+v, YAML %+v", fromFlags, fromYAML)
	}
	if err := fromFlags.Validate(); err != nil || fromFlags.Password.Reveal() != "p" {
		t.Errorf("%v, %v", fromFlags, err)
	}
	if text := fmt.Sprintf("%+v", Config{Password: config.NewSecret("hidden")}); strings.Contains(text, "hidden") {
		t.Error(text)
	}
}

// An IPv6 address may have a zone, which a URL has escaped.
func TestZones(t *testing.T) {
	for text, want := range map[string][]string{
		"[fe80::1%eth0]:2379":           {"[fe80::1%eth0]:2379", "https://[fe80::1%25eth0]:2379"},
		"https://[fe80::1%25eth0]:2379": {"[fe80::1%eth0]:2379", "https://[fe80::1%25eth0]:2379"},
		"unix:///run/etcd":              {"unix:///run/etcd", "unix:///run/etcd"},
	} {
		a, err := endpointForms.Parse(text)
		if err != nil || isName(a) {
			t.Errorf("%s: %+v, %v", text, a, err)
		}
		cfg := DefaultConfig()
		cfg.Endpoints, cfg.TLS.Enabled = []string{text}, true
		s, err := Open(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.(*store).endpoints(); !slices.Equal(got, want[1:]) || !slices.Equal(s.(*store).discovery.configured, []kit.Address{a}) {
			t.Errorf("%s: the client has %q, want %q", text, got, want[1])
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if got := clientURLs(want[:1], false); !slices.Equal(got, want[:1]) {
			t.Errorf("%s: without TLS %q, want %q", text, got, want[0])
		}
	}
}
