package consul_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testlog"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
)

// below is what the policies of docs/operations.md allow.
const below = "app/"

// securely is the configuration of a client that shows its certificate.
func securely(c *testserver.Cluster) consul.Config {
	cfg := consul.DefaultConfig()
	cert := c.ClientCert()
	cfg.Address = c.Endpoints()[0]
	cfg.TLS = config.TLS{Enabled: true, CAFile: c.Authority().File(), CertFile: cert.CertFile, KeyFile: cert.KeyFile}
	return cfg
}

func policy(t testing.TB, name string) string {
	t.Helper()
	return drivertest.Block(t, "../..", name)
}

func token(t testing.TB, c *testserver.Cluster, rules string) string {
	t.Helper()
	secret, err := c.AddToken(t.Context(), rules)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// TestConformanceSecured runs the suite with ACLs and TLS on either side, below
// a prefix, with the rights that docs/operations.md gives and no others.
func TestConformanceSecured(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	configs := map[*testserver.Cluster]consul.Config{}
	start := func() *testserver.Cluster {
		c := servertest.Consul(t, testserver.Options{Auth: true, ClientAuth: true})
		cfg := securely(c)
		cfg.Token = config.NewSecret(token(t, c, policy(t, "Consul policy: read and write")))
		mu.Lock()
		defer mu.Unlock()
		configs[c] = cfg
		return c
	}
	h := harnessAs(2, start, func(c *testserver.Cluster) consul.Config {
		mu.Lock()
		defer mu.Unlock()
		return configs[c]
	})
	drivertest.RunBelow(t, h, below, "consul")
}

// TestReadOnlyPolicy reads and watches with the policy for readers.
func TestReadOnlyPolicy(t *testing.T) {
	c := servertest.Consul(t, testserver.Options{Auth: true, ClientAuth: true})
	cfg := securely(c)
	cfg.Token = config.NewSecret(token(t, c, policy(t, "Consul policy: read only")))
	drivertest.ReadOnly(t, clientOf(t, cfg, nil), clientOf(t, withToken(cfg, c.Token()), nil))
}

func withToken(cfg consul.Config, token string) consul.Config {
	cfg.Token, cfg.TokenFile = config.NewSecret(token), ""
	return cfg
}

// clientOf returns a client of the keys below the prefix.
func clientOf(t testing.TB, cfg consul.Config, log *testlog.Log) kv.Client {
	t.Helper()
	return drivertest.Client(t, below, "consul", log, func(o kv.Options) (driver.Store, error) { return consul.Open(cfg, o.Logger) })
}

// TestRevokedToken replaces a token in its file after it was revoked, over TLS.
func TestRevokedToken(t *testing.T) {
	c := servertest.Consul(t, testserver.Options{Auth: true, ClientAuth: true})
	rules := policy(t, "Consul policy: read and write")
	file := filepath.Join(t.TempDir(), "token")
	old, next := token(t, c, rules), token(t, c, rules)
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(old)
	cfg := securely(c)
	cfg.TokenFile, cfg.WaitTime = file, time.Second
	log := &testlog.Log{}
	drivertest.Credentials{
		Client: clientOf(t, cfg, log), Root: clientOf(t, withToken(cfg, c.Token()), nil), Log: log,
		Secrets: []string{old, next, c.Token()},
		Revoke:  func() { revoke(t, c, cfg, old) },
		Restore: func() { write(next) },
	}.Revoked(t)
}

// revoke deletes a token and waits until the server has forgotten it.
func revoke(t *testing.T, c *testserver.Cluster, cfg consul.Config, token string) {
	t.Helper()
	err := serverOf(c, cfg).admin(func(admin *api.Client) error {
		self, _, err := admin.ACL().TokenReadSelf(&api.QueryOptions{Token: token})
		if err == nil {
			_, err = admin.ACL().TokenDelete(self.AccessorID, nil)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	refused := clientOf(t, withToken(cfg, token), nil)
	drivertest.Eventually(t, func() error {
		if _, err := refused.Get(t.Context(), "k"); !errors.Is(err, kv.ErrPermission) {
			return errors.New("the token is still valid")
		}
		return nil
	})
}
