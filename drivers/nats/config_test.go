package nats

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/config"
)

func TestBadConfig(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"servers: at least one":        func(c *Config) { c.Servers = nil },
		"servers[0]: ":                 func(c *Config) { c.Servers = []string{"nats://user:secret@a:4222"} },
		"servers[1]: ":                 func(c *Config) { c.Servers = []string{"a:4222", "tls://b:4222"} },
		"tls.ca_file: ":                func(c *Config) { c.TLS.CAFile = "ca.pem" },
		"bucket: ":                     func(c *Config) { c.Bucket = "a.b" },
		"domain: ":                     func(c *Config) { c.Domain = "a.b" },
		"replicas: ":                   func(c *Config) { c.Replicas = 6 },
		"replicas: 0":                  func(c *Config) { c.Replicas = 0 },
		"marker_ttl: ":                 func(c *Config) { c.MarkerTTL = time.Millisecond },
		"dial_timeout: ":               func(c *Config) { c.DialTimeout = 0 },
		"ping_interval: ":              func(c *Config) { c.PingInterval = 0 },
		"max_payload: ":                func(c *Config) { c.MaxPayload = 100 },
		"password: is empty":           func(c *Config) { c.Username = "user" },
		"password_file: is set":        func(c *Config) { c.Password, c.PasswordFile = config.NewSecret("secret"), "file" },
		"password_file: open /nowhere": func(c *Config) { c.PasswordFile = "/nowhere/file" },
		"credentials_file: ":           func(c *Config) { c.Password, c.CredentialsFile = config.NewSecret("secret"), "file" },
	} {
		cfg := *NewConfig()
		change(&cfg)
		if _, err := Open(cfg, nil); err == nil || cfg.Validate() == nil || err.Error() != cfg.Validate().Error() {
			t.Errorf("Open says %v, Validate %v", err, cfg.Validate())
		}
		err := cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), field) || strings.Contains(err.Error(), "secret") {
			t.Errorf("want an error about %q, got %v", field, err)
		}
	}
	for _, change := range []func(*Config){
		func(c *Config) { c.MarkerTTL, c.Replicas, c.MaxPayload = time.Second, 1, 4<<10 },
		func(c *Config) { c.MarkerTTL, c.Replicas, c.MaxPayload = 0, 5, 64<<20 },
		func(c *Config) { c.Domain = "a-Z_9" },
	} {
		cfg := *NewConfig()
		if change(&cfg); cfg.Validate() != nil {
			t.Errorf("%+v: %v", cfg, cfg.Validate())
		}
	}
	cfg := *NewConfig()
	if !cfg.Create || open(t, cfg).tls != nil {
		t.Error("the defaults make no bucket, or use TLS")
	}
	if cfg.TLS.Enabled = true; open(t, cfg).tls == nil {
		t.Error("TLS is enabled and not used")
	}
	cfg = *NewConfig()
	cfg.CredentialsFile = filepath.Join(t.TempDir(), "later") // read for each connection
	closeStore(t, open(t, cfg))
}

// A URL has the zone of an IPv6 address escaped.
func TestServersOfIPv6(t *testing.T) {
	cfg := *NewConfig()
	cfg.Servers = []string{"[::1]:1", "nats://[fe80::1%25eth0]:2", "[fe80::2%eth0]:3"}
	s, err := Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore(t, s)
	got, err := s.(*store).servers(t.Context())
	if want := []string{"nats://[::1]:1", "nats://[fe80::1%25eth0]:2", "nats://[fe80::2%25eth0]:3"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// Every field has a flag that sets it.
func TestFlags(t *testing.T) {
	c, fs := NewConfig(), pflag.NewFlagSet("", pflag.ContinueOnError)
	c.RegisterFlags(fs, "n.")
	err := fs.Parse([]string{
		"--n.servers=a:1", "--n.bucket=b", "--n.domain=d", "--n.create=false", "--n.replicas=3", "--n.marker-ttl=2s", "--n.username=u", "--n.password=p",
		"--n.password-file=f", "--n.credentials-file=c", "--n.tls.enabled", "--n.dial-timeout=3s", "--n.ping-interval=4s", "--n.max-payload=5000",
	})
	want := Config{
		Servers: []string{"a:1"}, Bucket: "b", Domain: "d", Replicas: 3, MarkerTTL: 2 * time.Second, Username: "u", Password: config.NewSecret("p"),
		PasswordFile: "f", CredentialsFile: "c", TLS: config.TLS{Enabled: true}, DialTimeout: 3 * time.Second, PingInterval: 4 * time.Second, MaxPayload: 5000,
	}
	if err != nil || !reflect.DeepEqual(*c, want) || c.Password.Reveal() != "p" {
		t.Errorf("%+v, %v; want %+v", c, err, want)
	}
}
