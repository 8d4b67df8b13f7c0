package etcd

import (
	"crypto/x509"
	"errors"
	"os"
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

// mutual is one server that asks clients for certificates.
var mutual = servertest.SharedEtcd(testserver.Options{NoFsync: true, ClientAuth: true})

func mutualConfig(t testing.TB) Config {
	t.Helper()
	c := mutual.Get(t)
	cfg := configFor(c)
	cert := c.ClientCert()
	cfg.TLS = config.TLS{Enabled: true, CAFile: c.Authority().File(), CertFile: cert.CertFile, KeyFile: cert.KeyFile}
	return cfg
}

func TestMutualTLS(t *testing.T) {
	s := open(t, mutualConfig(t))
	drivertest.Put(t, s, t.Name(), "v")
	f := follow(t, s, driver.Range{Key: t.Name()})
	f.Sees(t, map[string]string{t.Name(): "v"})
}

func TestServerTLS(t *testing.T) {
	c := servertest.Etcd(t, testserver.Options{NoFsync: true, TLS: true})
	cfg := configFor(c)
	cfg.Endpoints = c.URLs()
	cfg.TLS = config.TLS{Enabled: true, CAFile: c.Authority().File()}
	drivertest.Put(t, open(t, cfg), "k", "v")

	plain := open(t, configFor(c))
	if _, err := plain.Get(drivertest.WithTimeout(t, 5*time.Second), driver.GetRequest{Key: "k"}); err == nil {
		t.Error("a plain connection to a TLS server works")
	}
	cfg.TLS = config.TLS{} // the system's authorities
	_, err := open(t, cfg).Get(drivertest.WithTimeout(t, time.Minute), driver.GetRequest{Key: "k"})
	if !driver.IsPermanent(err) || !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("unknown authority: %v", err)
	}
}

// What a certificate is refused for ends a call at once, on either side, and
// is in the message.
func TestRefusedCertificates(t *testing.T) {
	c := mutual.Get(t)
	namesake, err := certs.NewAuthority(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := certs.NewAuthority(t.TempDir(), "stranger")
	if err != nil {
		t.Fatal(err)
	}
	expired, err := c.Authority().Expired("expired")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := stranger.Client("foreign")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*config.TLS)
		want   string
	}{
		"wrong authority":             {func(c *config.TLS) { c.CAFile = stranger.File() }, "x509: certificate signed by unknown authority"},
		"authority of the right name": {func(c *config.TLS) { c.CAFile = namesake.File() }, `candidate authority certificate "`},
		"wrong name":                  {func(c *config.TLS) { c.ServerName = "other.example" }, "other.example"},
		"no certificate":              {func(c *config.TLS) { c.CertFile, c.KeyFile = "", "" }, "certificate required"},
		"expired":                     {func(c *config.TLS) { c.CertFile, c.KeyFile = expired.CertFile, expired.KeyFile }, "expired"},
		"foreign":                     {func(c *config.TLS) { c.CertFile, c.KeyFile = foreign.CertFile, foreign.KeyFile }, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := mutualConfig(t)
			test.change(&cfg.TLS)
			s := open(t, cfg)
			start := time.Now()
			res, err := s.Swap(drivertest.WithTimeout(t, 10*time.Second), driver.Swap{Key: t.Name(), ID: 1})
			if res.Outcome != driver.NotApplied || !driver.IsPermanent(err) ||
				!strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), cfg.Endpoints[0]) {
				t.Errorf("%v, permanent %v: %v", res.Outcome, driver.IsPermanent(err), err)
			}
			if d := time.Since(start); d > cfg.DialTimeout {
				t.Errorf("after %v", d)
			}
			if err := s.Watch(drivertest.WithTimeout(t, 10*time.Second), driver.WatchRequest{Range: driver.Range{Key: "k"}}, func(driver.Event) {}); !driver.IsPermanent(err) {
				t.Errorf("watch: %v", err)
			}
		})
	}
}

// As long as an endpoint is merely out of reach, there is hope.
func TestRefusedByOneOfTwo(t *testing.T) {
	cfg := mutualConfig(t)
	cfg.TLS.ServerName = "other.example"
	cfg.Endpoints = append(cfg.Endpoints, drivertest.Unused(t))
	s := open(t, cfg)
	drivertest.Eventually(t, func() error {
		_, err := s.Get(drivertest.WithTimeout(t, 5*time.Second), driver.GetRequest{Key: "k"})
		if err == nil || driver.IsPermanent(err) {
			t.Fatalf("get: %v", err)
		}
		s.refused.mu.Lock()
		defer s.refused.mu.Unlock()
		if len(s.refused.by) == 0 {
			return errors.New("not refused yet")
		}
		return nil
	})
}

// A server whose certificate was refused and is good now is good.
func TestRefusalIsForgotten(t *testing.T) {
	cfg := mutualConfig(t)
	good, err := os.ReadFile(cfg.TLS.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(cfg.TLS.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	expired, err := mutual.Get(t).Authority().Expired("renewed")
	if err != nil {
		t.Fatal(err)
	}
	cfg.TLS.CertFile, cfg.TLS.KeyFile = expired.CertFile, expired.KeyFile
	s := open(t, cfg)
	if _, err := s.Get(drivertest.WithTimeout(t, time.Minute), driver.GetRequest{Key: "k"}); !driver.IsPermanent(err) {
		t.Fatalf("get: %v", err)
	}
	for file, data := range map[string][]byte{expired.CertFile: good, expired.KeyFile: key} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	drivertest.Eventually(t, func() error {
		_, err := s.Get(drivertest.WithTimeout(t, 5*time.Second), driver.GetRequest{Key: "k"})
		return err
	})
}
