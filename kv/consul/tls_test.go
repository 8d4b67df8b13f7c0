package consul

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/certs"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// mutual wants a client certificate.
var mutual = servertest.SharedConsul(testserver.Options{ClientAuth: true})

func mutualConfig(c *testserver.Cluster, pair certs.Pair) Config {
	cfg := configFor(c)
	cfg.Address = c.Endpoints()[0]
	cfg.TLS = config.TLS{Enabled: true, CAFile: c.Authority().File(), CertFile: pair.CertFile, KeyFile: pair.KeyFile}
	return cfg
}

func TestMutualTLS(t *testing.T) {
	c := mutual.Get(t)
	s, p := openStore(t, mutualConfig(c, c.ClientCert())), drivertest.Unique(t)+"/"
	f := follow(t, s, driver.Range{Key: p, IsPrefix: true})
	f.IsSynced(t)
	drivertest.Put(t, s, p+"k", "v")
	f.Sees(t, map[string]string{p + "k": "v"})
}

// A certificate that one side refuses is no reason to try again, and proves
// that nothing was written.
func TestRefusedCertificates(t *testing.T) {
	c := mutual.Get(t)
	stranger, err := certs.NewAuthority(t.TempDir(), "stranger")
	if err != nil {
		t.Fatal(err)
	}
	expired, err := c.Authority().Expired("expired")
	if err != nil {
		t.Fatal(err)
	}
	strange, err := stranger.Client("client")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"authority unknown to us":  {func(c *Config) { c.TLS.CAFile = stranger.File() }, "unknown authority"},
		"another name":             {func(c *Config) { c.TLS.ServerName = "consul.example" }, "consul.example"},
		"ours is expired":          {func(c *Config) { c.TLS.CertFile, c.TLS.KeyFile = expired.CertFile, expired.KeyFile }, "expired certificate"},
		"ours is from a stranger":  {func(c *Config) { c.TLS.CertFile, c.TLS.KeyFile = strange.CertFile, strange.KeyFile }, "unknown certificate authority"},
		"we have none":             {func(c *Config) { c.TLS.CertFile, c.TLS.KeyFile = "", "" }, "certificate required"},
		"plain HTTP":               {func(c *Config) { c.TLS = config.TLS{} }, "HTTPS server"},
		"an untrusted system pool": {func(c *Config) { c.TLS.CAFile = "" }, "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := mutualConfig(c, c.ClientCert())
			test.change(&cfg)
			s := openStore(t, cfg)
			for i := range 30 { // the server's refusal races with what is sent
				w := driver.Swap{Key: "k", Value: make([]byte, 1), ID: 1}
				if i%2 == 0 && name != "plain HTTP" { // where a large write ends before the answer is read
					w.Value = make([]byte, 300<<10)
				}
				res, err := s.Swap(drivertest.WithTimeout(t, time.Minute), w)
				if res.Outcome != driver.NotApplied || !driver.IsPermanent(err) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("swap %d: %v, %v; want %s", i, res.Outcome, err, test.want)
				}
				if _, err := s.Get(drivertest.WithTimeout(t, time.Minute), driver.GetRequest{Key: "k"}); !driver.IsPermanent(err) {
					t.Errorf("get %d: %v", i, err)
				}
			}
			err := s.Watch(drivertest.WithTimeout(t, time.Minute), driver.WatchRequest{Range: driver.Range{Key: "k"}}, func(driver.Event) { t.Error("an event") })
			if !driver.IsPermanent(err) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("watch: %v", err)
			}
		})
	}
}

func TestExpiredServer(t *testing.T) {
	ca, err := certs.NewAuthority(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Expired("server")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.Load()
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	defer func() { _ = l.Close(); <-done }()
	cfg := DefaultConfig()
	cfg.Address = l.Addr().String()
	cfg.TLS = config.TLS{Enabled: true, CAFile: ca.File()}
	s := openStore(t, cfg)
	res, err := s.Swap(drivertest.WithTimeout(t, time.Minute), driver.Swap{Key: "k", ID: 1})
	if res.Outcome != driver.NotApplied || !driver.IsPermanent(err) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("%v, %v", res.Outcome, err)
	}
}

// Consul's variables supply what is missing.
func TestTLSFromTheEnvironment(t *testing.T) {
	c := mutual.Get(t)
	bare, ca := c.Endpoints()[0], c.Authority().File()
	for name, env := range map[string]map[string]string{
		"CONSUL_CACERT":          {"CONSUL_HTTP_ADDR": bare, "CONSUL_HTTP_SSL": "true", "CONSUL_CACERT": ca},
		"CONSUL_CAPATH":          {"CONSUL_HTTP_ADDR": bare, "CONSUL_HTTP_SSL": "true", "CONSUL_CAPATH": dirWith(t, ca)},
		"CONSUL_HTTP_SSL_VERIFY": {"CONSUL_HTTP_ADDR": bare, "CONSUL_HTTP_SSL": "true", "CONSUL_HTTP_SSL_VERIFY": "false"},
		"https":                  {"CONSUL_HTTP_ADDR": c.URLs()[0], "CONSUL_CACERT": ca},
		"CONSUL_TLS_SERVER_NAME": {"CONSUL_HTTP_ADDR": c.URLs()[0], "CONSUL_CACERT": ca, "CONSUL_TLS_SERVER_NAME": "localhost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CONSUL_CLIENT_CERT", c.ClientCert().CertFile)
			t.Setenv("CONSUL_CLIENT_KEY", c.ClientCert().KeyFile)
			for variable, value := range env {
				t.Setenv(variable, value)
			}
			drivertest.Get(t, openStore(t, DefaultConfig()), "k")
		})
	}
	t.Setenv("CONSUL_HTTP_ADDR", bare)
	t.Setenv("CONSUL_HTTP_SSL", "perhaps")
	if _, err := Open(DefaultConfig(), nil); err == nil || !strings.Contains(err.Error(), `CONSUL_HTTP_SSL: "perhaps"`) {
		t.Error(err)
	}
}

// TLS to a server that has none.
func TestTLSToAPlainServer(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Address = "https://" + single.Get(t).Endpoints()[0]
	s := openStore(t, cfg)
	res, err := s.Swap(drivertest.WithTimeout(t, time.Minute), driver.Swap{Key: "k", ID: 1})
	if res.Outcome != driver.NotApplied || !driver.IsPermanent(err) {
		t.Errorf("%v, %v", res.Outcome, err)
	}
}

// dirWith returns a folder that holds a copy of file and nothing else.
func dirWith(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestUnixSocket(t *testing.T) {
	dir, err := os.MkdirTemp("", "consul") // a test's own may be too long a name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "http.sock")
	c := servertest.Consul(t, testserver.Options{Args: []string{"-hcl", `addresses { http = "127.0.0.1 unix://` + socket + `" }`}})
	cfg := configFor(c)
	cfg.Address = "unix://" + socket
	s := openStore(t, cfg)
	f := follow(t, s, driver.Range{Key: "k"})
	f.IsSynced(t)
	drivertest.Put(t, s, "k", "v")
	f.Sees(t, map[string]string{"k": "v"})
	if e := drivertest.Get(t, openStore(t, configFor(c)), "k"); string(e.Value) != "v" {
		t.Errorf("%+v", e)
	}
	cfg.Address += ".not"
	s = openStore(t, cfg)
	res, err := s.Swap(t.Context(), driver.Swap{Key: "k", ID: 1})
	if res.Outcome != driver.NotApplied || !errors.As(err, new(*net.OpError)) {
		t.Errorf("%v, %v", res.Outcome, err)
	}
}
