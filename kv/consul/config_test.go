package consul

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

const secret = "s3cr3t-token"

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, empty, two, odd := file("good", secret+"\n"), file("empty", " \n"), file("two", secret+"\nmore\n"), file("odd", "of two")
	address := func(a string) func(*Config) { return func(c *Config) { c.Address = a } }
	for name, test := range map[string]struct {
		change func(*Config)
		want   []string // parts of the error; none: valid
	}{
		"default":          {func(*Config) {}, nil},
		"host and port":    {address("consul:8500"), nil},
		"URL":              {address("http://[::1]:8500/"), nil},
		"URL without port": {address("https://consul.example"), nil},
		"gateway":          {address("https://gateway.example:443/consul/a"), nil},
		"socket":           {address("unix:///run/consul.sock"), nil},
		"no port":          {address("consul"), []string{"address:", `"consul"`, "host:port"}},
		"no host":          {address(":8500"), []string{"address:", "host:port"}},
		"bad port":         {address("http://a:70000"), []string{"address:", "1 to 65535"}},
		"path":             {address("a:8500/consul"), []string{"address:"}},
		"query":            {address("http://a:8500/?dc=1"), []string{"address:"}},
		"scheme":           {address("ftp://a:1"), []string{"address:", "unknown scheme", "https://host:port"}},
		"relative socket":  {address("unix://consul.sock"), []string{"address:", "absolute path"}},
		"credentials":      {address("http://u:" + secret + "@a:1"), []string{"address:", "token"}},
		"token file":       {func(c *Config) { c.TokenFile = good }, nil},
		"two tokens":       {func(c *Config) { c.TokenFile, c.Token = good, config.NewSecret(secret) }, []string{"token_file:", "token is set"}},
		"no token file":    {func(c *Config) { c.TokenFile = dir + "/none" }, []string{"token_file:", "/none", "no such file"}},
		"empty token file": {func(c *Config) { c.TokenFile = empty }, []string{"token_file:", "empty"}},
		"full token file":  {func(c *Config) { c.TokenFile = two }, []string{"token_file:", "one line"}},
		"odd token":        {func(c *Config) { c.Token = config.NewSecret(secret + "\r\nX-Evil: 1") }, []string{"token:", "one token"}},
		"plain with TLS":   {func(c *Config) { c.Address, c.TLS.Enabled = "http://a:1", true }, []string{"tls.enabled:", "https://"}},
		"socket with TLS":  {func(c *Config) { c.Address, c.TLS.Enabled = "unix:///a", true }, []string{"tls.enabled:", "unix://"}},
		"unused TLS file":  {func(c *Config) { c.TLS.CAFile = "ca.pem" }, []string{"tls.ca_file:"}},
		"missing TLS file": {func(c *Config) { c.TLS.Enabled, c.TLS.CAFile = true, "/nowhere/ca.pem" }, []string{"tls.ca_file:", "/nowhere/ca.pem"}},
		"consistency":      {func(c *Config) { c.Consistency = "strong" }, []string{"consistency:", `"strong"`, "consistent, default or stale"}},
		"control token":    {func(c *Config) { c.Token = config.NewSecret(secret + "\x7f") }, []string{"token:", "one token"}},
		"token of two":     {func(c *Config) { c.Token = config.NewSecret("a b") }, []string{"token:", "one token"}},
		"token and space":  {func(c *Config) { c.Token = config.NewSecret(" ~" + secret + "!\n") }, nil},
		"odd token file":   {func(c *Config) { c.TokenFile = odd }, []string{"token_file: read " + odd + ":", "one token"}},
		"shortest wait":    {func(c *Config) { c.WaitTime = time.Second }, nil},
		"longest wait":     {func(c *Config) { c.WaitTime = time.Minute }, nil},
		"proxy to one":     {func(c *Config) { c.Proxy = config.NewSecret("http://p:1") }, nil},
		"odd proxy":        {func(c *Config) { c.Proxy = config.NewSecret("http://p:1:" + secret) }, []string{"proxy:", "http://host:port"}},
		"proxy of nobody":  {func(c *Config) { c.Proxy = config.NewSecret("http:///" + secret) }, []string{"proxy:", "http://host:port"}},
		"proxy to socket":  {func(c *Config) { c.Address, c.Proxy = "unix:///a", config.NewSecret("http://p:1") }, []string{"proxy:", "single"}},
		"short wait":       {func(c *Config) { c.WaitTime = time.Millisecond }, []string{"wait_time:", "1s to 60s"}},
		"long wait":        {func(c *Config) { c.WaitTime = time.Hour }, []string{"wait_time:", "1s to 60s"}},
		"dial timeout":     {func(c *Config) { c.DialTimeout = 0 }, []string{"dial_timeout:", "more than 0"}},
		"value size":       {func(c *Config) { c.MaxValueSize = 100 }, []string{"max_value_size:", "16384 to 1073741824"}},
		"proxy":            {func(c *Config) { c.Proxy = config.NewSecret("ftp://u:" + secret + "@p:1") }, []string{"proxy:", "http://host:port"}},
		"proxy to several": {func(c *Config) { c.Address, c.Proxy = "a:1,b:1", config.NewSecret("http://p:1") }, []string{"proxy:", "single"}},
		"several":          {address("a:1, b:1,dnssrv+_consul._tcp.example.com"), nil},
		"several, mixed":   {address("http://a:1,https://b:1"), []string{"address:", "TLS"}},
		"several paths":    {address("http://a:1/x,http://b:1/y"), []string{"address:", "same path"}},
		"root":             {func(c *Config) { c.Root = "\x00" }, []string{"root:", "control characters"}},
		"connections":      {func(c *Config) { c.MaxConns = 0 }, []string{"max_conns:", "more than 0"}},
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
				openStore(t, cfg)
				return
			}
			if text := err.Error(); strings.Contains(text, secret) || strings.Contains(text, "\n") {
				t.Errorf("%q", text)
			}
			if _, err := Open(cfg, nil); err == nil || !strings.HasPrefix(err.Error(), "consul: ") {
				t.Errorf("Open: %v", err)
			}
		})
	}
}

// Flags and YAML name the same fields, and every field has both.
func TestFlagsAndYAML(t *testing.T) {
	fromFlags, fromYAML := DefaultConfig(), DefaultConfig()
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	fromFlags.RegisterFlags(fs, "consul.")
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		name := strings.ReplaceAll(f.Tag.Get("yaml"), "_", "-")
		if name == "tls" {
			name = "tls.enabled"
		}
		if flag := fs.Lookup("consul." + name); name == "" || flag == nil || flag.Usage == "" {
			t.Errorf("field %s has no flag %q", f.Name, name)
		}
	}
	err := fs.Parse([]string{
		"--consul.address=a:1", "--consul.token=" + secret, "--consul.token-file=f", "--consul.datacenter=d",
		"--consul.namespace=n", "--consul.partition=p", "--consul.tls.enabled", "--consul.consistency=stale",
		"--consul.wait-time=2s", "--consul.dial-timeout=3s", "--consul.max-value-size=100000", "--consul.max-conns=7", "--consul.proxy=http://" + secret + ":1", "--consul.root=/r",
	})
	if err != nil {
		t.Fatal(err)
	}
	err = yaml.Unmarshal([]byte(`{address: "a:1", token: `+secret+`, token_file: f, datacenter: d, namespace: n, partition: p,
		tls: {enabled: true}, consistency: stale, wait_time: 2s, dial_timeout: 3s, max_value_size: 100000, max_conns: 7, proxy: "http://`+secret+`:1", root: /r}`), &fromYAML)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fromFlags, fromYAML) || fromYAML.Token.Reveal() != secret {
		t.Errorf("%+v\n%+v", fromFlags, fromYAML)
	}
	asJSON, _ := json.Marshal(fromYAML)
	asYAML, _ := yaml.Marshal(fromYAML)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v", fromYAML, fromYAML, fromYAML), string(asJSON), string(asYAML)} {
		if strings.Contains(text, secret) {
			t.Error(text)
		}
	}
}

func TestEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of the file"[:2]), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONSUL_HTTP_ADDR", "https://consul.example/path")
	t.Setenv("CONSUL_HTTP_TOKEN", secret)
	t.Setenv("CONSUL_NAMESPACE", "ns")
	t.Setenv("CONSUL_PARTITION", "ap")
	t.Setenv("CONSUL_HTTP_AUTH", "user:password")
	got, env, err := DefaultConfig().withEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	at, err := got.endpoint()
	if err != nil || at.host != "consul.example:443" || at.path != "/path" || at.scheme != "https" || !at.secure {
		t.Errorf("%+v, %v", at, err)
	}
	if got.Token.Reveal() != secret || got.Namespace != "ns" || got.Partition != "ap" || *env.basicAuth != (api.HttpBasicAuth{Username: "user", Password: "password"}) {
		t.Errorf("%+v, %+v", got, env)
	}
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", file)
	if got, _, _ = DefaultConfig().withEnvironment(); got.Token.Reveal() != "" || got.TokenFile != file {
		t.Errorf("%+v", got)
	}
	set := DefaultConfig()
	set.Address, set.Token, set.Namespace, set.Partition = "a:1", config.NewSecret("mine"), "mine", "mine"
	if got, _, err = set.withEnvironment(); err != nil || !reflect.DeepEqual(got, set) {
		t.Errorf("%+v, %v", got, err)
	}
	t.Setenv("CONSUL_HTTP_ADDR", "nonsense")
	if _, err := Open(DefaultConfig(), nil); err == nil || !strings.Contains(err.Error(), "CONSUL_*") || !strings.Contains(err.Error(), "nonsense") {
		t.Error(err)
	}
}

func TestEndpoint(t *testing.T) {
	for _, test := range []struct {
		address, host, hostname string
		enabled, secure         bool
	}{
		{"a:1", "a:1", "a", false, false},
		{"a:1", "a:1", "a", true, true},
		{"http://a", "a:80", "a", false, false},
		{"https://[::1]:1", "[::1]:1", "::1", false, true},
		{"unix:///a", "localhost", "localhost", false, false},
		{"dnssrv+a.test", "localhost", "localhost", true, true},
		{"a:1,b:1", "a:1", "a", false, false},
	} {
		cfg := DefaultConfig()
		cfg.Address, cfg.TLS.Enabled = test.address, test.enabled
		e, err := cfg.endpoint()
		if err != nil || e.host != test.host || e.hostname() != test.hostname || e.secure != test.secure || e.scheme != map[bool]string{false: "http", true: "https"}[test.secure] || e.proxied() {
			t.Errorf("%s, TLS %v: %+v, %v", test.address, test.enabled, e, err)
		}
	}
	for proxy, want := range map[string]bool{"http://p:1": true, "environment": false} {
		cfg := DefaultConfig()
		cfg.Proxy = config.NewSecret(proxy)
		if e, err := cfg.endpoint(); err != nil || e.proxied() != want {
			t.Errorf("%s: proxied to %s: %v, %v", proxy, e.host, e.proxied(), err)
		}
	}
	failing := endpoint{proxy: func(*http.Request) (*url.URL, error) { return &url.URL{}, io.EOF }}
	if failing.proxied() {
		t.Error("a proxy that can't be found is passed")
	}
	cfg := DefaultConfig()
	cfg.WaitTime = 32 * time.Second
	if got := cfg.answerTime(); got != 39*time.Second {
		t.Errorf("an answer may take %v", got)
	}
}

// Each of Consul's variables about TLS fills one field, if it is empty.
func TestEnvironmentOfTLS(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		address  string
		set, env config.TLS
		vars     []string // name=value
		want     string   // the error; "": none
	}{
		{"a:1", config.TLS{}, config.TLS{}, []string{"CONSUL_CACERT=ca", "CONSUL_HTTP_SSL_VERIFY=false"}, ""},
		{"a:1", config.TLS{}, config.TLS{Enabled: true}, []string{"CONSUL_HTTP_SSL=true"}, ""},
		{"a:1", config.TLS{}, config.TLS{}, []string{"CONSUL_HTTP_SSL=0"}, ""},
		{"http://a:1", config.TLS{}, config.TLS{}, []string{"CONSUL_HTTP_SSL=true"}, ""},
		{"unix:///a", config.TLS{}, config.TLS{}, []string{"CONSUL_HTTP_SSL=true"}, ""},
		{
			"https://a:1",
			config.TLS{},
			config.TLS{Enabled: true, CAFile: "ca", ServerName: "name", CertFile: "cert", KeyFile: "key"},
			[]string{"CONSUL_CACERT=ca", "CONSUL_TLS_SERVER_NAME=name", "CONSUL_CLIENT_CERT=cert", "CONSUL_CLIENT_KEY=key"},
			"",
		},
		{
			"a:1",
			config.TLS{Enabled: true, CAFile: "mine", ServerName: "mine", CertFile: "mine"},
			config.TLS{Enabled: true, CAFile: "mine", ServerName: "mine", CertFile: "mine"},
			[]string{"CONSUL_CACERT=ca", "CONSUL_TLS_SERVER_NAME=name", "CONSUL_CLIENT_CERT=cert", "CONSUL_CLIENT_KEY=key", "CONSUL_CAPATH=/nowhere"},
			"",
		},
		{"https://a:1", config.TLS{KeyFile: "mine"}, config.TLS{Enabled: true, KeyFile: "mine"}, []string{"CONSUL_CLIENT_CERT=cert"}, ""},
		{"https://a:1", config.TLS{}, config.TLS{Enabled: true, InsecureSkipVerify: true}, []string{"CONSUL_HTTP_SSL_VERIFY=false"}, ""},
		{"https://a:1", config.TLS{}, config.TLS{Enabled: true}, []string{"CONSUL_HTTP_SSL_VERIFY=true", "CONSUL_CAPATH=" + dir}, ""},
		{"a:1", config.TLS{}, config.TLS{}, []string{"CONSUL_HTTP_SSL=perhaps"}, `CONSUL_HTTP_SSL: "perhaps" is not allowed`},
		{"https://a:1", config.TLS{}, config.TLS{}, []string{"CONSUL_HTTP_SSL_VERIFY=perhaps"}, `CONSUL_HTTP_SSL_VERIFY: "perhaps" is not allowed`},
		{"https://a:1", config.TLS{}, config.TLS{}, []string{"CONSUL_CAPATH=/nowhere"}, "CONSUL_CAPATH: "},
	} {
		t.Run("", func(t *testing.T) {
			for _, v := range test.vars {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			cfg := DefaultConfig()
			cfg.Address, cfg.TLS = test.address, test.set
			got, env, err := cfg.withEnvironment()
			if test.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), test.want) {
					t.Errorf("%q: %v, want %s", test.vars, err, test.want)
				}
				return
			}
			roots := strings.HasSuffix(test.vars[len(test.vars)-1], dir)
			if err != nil || got.Address != test.address || got.TLS != test.env || (env.roots != nil) != roots {
				t.Errorf("%s, %q: %+v, %v, %v; want %+v", test.address, test.vars, got.TLS, env, err, test.env)
			}
		})
	}
}

// The token of the configuration is used, whatever the environment says, and
// none is if there is none.
func TestTokenPresented(t *testing.T) {
	for _, token := range []string{"", secret} {
		s, headers := echo(t, func(c *Config) { c.Token = config.NewSecret(token) })
		t.Setenv("CONSUL_HTTP_TOKEN", "of the environment") // after Open
		_, _ = s.Get(t.Context(), driver.GetRequest{Key: "k"})
		_, _ = s.Swap(t.Context(), driver.Swap{Key: "k", ID: 1})
		for range 2 {
			if h := <-headers; h.Get("X-Consul-Token") != token || (token == "") != (h["X-Consul-Token"] == nil) {
				t.Errorf("presented %q, want %q", h["X-Consul-Token"], token)
			}
		}
	}
}

// Namespaces and partitions need Consul Enterprise. Transactions of other
// servers would ignore them.
func TestEnterpriseOnly(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"namespace": func(c *Config) { c.Namespace = "team" },
		"partition": func(c *Config) { c.Partition = "team" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configFor(single.Get(t))
			change(&cfg)
			s, key := openStore(t, cfg), drivertest.Unique(t)
			check := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, driver.ErrNotSupported) || !strings.Contains(err.Error(), "not Consul Enterprise") {
					t.Errorf("%s: %v", what, err)
				}
			}
			for range 2 {
				res, err := s.Swap(t.Context(), driver.Swap{Key: key, ID: 1})
				check("swap", err)
				if res.Outcome != driver.NotApplied {
					t.Errorf("swap: %v", res.Outcome)
				}
			}
			_, err := s.Get(t.Context(), driver.GetRequest{Key: key})
			check("get", err)
			_, err = s.Get(t.Context(), driver.GetRequest{Key: key, Guards: []driver.Guard{{Key: key, Version: 1}}})
			check("guarded get", err)
			_, err = s.Scan(t.Context(), driver.ScanRequest{Prefix: key})
			check("scan", err)
			check("watch", s.Watch(t.Context(), driver.WatchRequest{Range: driver.Range{Key: key}}, nil))
			if e := drivertest.Get(t, openStore(t, configFor(single.Get(t))), key); e.Exists() {
				t.Errorf("written elsewhere: %+v", e)
			}
		})
	}
}

// A datacenter that nobody knows may be one that is out of reach.
func TestUnknownDatacenter(t *testing.T) {
	cfg := configFor(single.Get(t))
	cfg.Datacenter = "dc7"
	s := openStore(t, cfg)
	res, err := s.Swap(t.Context(), driver.Swap{Key: "k", ID: 1})
	if res.Outcome != driver.NotApplied || driver.IsPermanent(err) || !strings.Contains(err.Error(), "No path to datacenter") {
		t.Errorf("%v, %v", res.Outcome, err)
	}
	if _, err := s.Get(t.Context(), driver.GetRequest{Key: "k"}); err == nil || driver.IsPermanent(err) {
		t.Error(err)
	}
	cfg.Datacenter = "dc1"
	drivertest.Put(t, openStore(t, cfg), drivertest.Unique(t), "v")
}
