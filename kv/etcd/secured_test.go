package etcd_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testlog"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
)

// below is what the commands of docs/operations.md allow.
const (
	below    = "app/"
	password = "a-password-of-tests"
)

// secured starts a cluster with users and client certificates, and returns how
// a user gets in.
func secured(t testing.TB) (*testserver.Cluster, func(user, password string) etcd.Config) {
	t.Helper()
	c := servertest.Etcd(t, testserver.Options{NoFsync: true, Auth: true, ClientAuth: true})
	return c, func(user, password string) etcd.Config {
		cfg := etcd.DefaultConfig()
		cert := c.ClientCert()
		cfg.Endpoints = c.Endpoints()
		cfg.Username, cfg.Password = user, config.NewSecret(password)
		cfg.TLS = config.TLS{Enabled: true, CAFile: c.Authority().File(), CertFile: cert.CertFile, KeyFile: cert.KeyFile}
		return cfg
	}
}

// admin returns a plain client with all rights.
func admin(t testing.TB, c *testserver.Cluster) *clientv3.Client {
	t.Helper()
	client, err := c.EtcdClient()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// grant adds a user and carries out commands of docs/operations.md, in the
// forms of etcdctl that are used there.
func grant(t testing.TB, c *testserver.Cluster, user, block string) {
	t.Helper()
	client, ctx := admin(t, c), t.Context()
	_, err := client.UserAdd(ctx, user, password)
	for line := range strings.Lines(drivertest.Block(t, "../..", block)) {
		words := strings.Fields(line)
		if len(words) < 4 || words[0] != "etcdctl" {
			t.Fatalf("%q is no command of etcdctl", line)
		}
		var e error
		switch what, args := words[1]+" "+words[2], words[3:]; what {
		case "role add":
			_, e = client.RoleAdd(ctx, args[0])
		case "role grant-permission": // ROLE --prefix=true KIND PREFIX
			known := map[string]clientv3.PermissionType{
				"read": clientv3.PermissionType(clientv3.PermRead), "readwrite": clientv3.PermissionType(clientv3.PermReadWrite),
			}
			if len(args) != 4 || args[1] != "--prefix=true" {
				t.Fatalf("%q is not understood", line)
			}
			kind, ok := known[args[2]]
			if !ok {
				t.Fatalf("%q is not understood", line)
			}
			_, e = client.RoleGrantPermission(ctx, args[0], args[3], clientv3.GetPrefixRangeEnd(args[3]), kind)
		case "user grant-role":
			_, e = client.UserGrantRole(ctx, args[0], args[1])
		default:
			t.Fatalf("%q is not understood", line)
		}
		err = errors.Join(err, e)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestConformanceSecured runs the suite with users and certificates on either
// side, below a prefix, with the rights that docs/operations.md gives and no
// others.
func TestConformanceSecured(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	configs := map[*testserver.Cluster]etcd.Config{}
	start := func() *testserver.Cluster {
		c, as := secured(t)
		grant(t, c, "app", "etcd commands: read and write")
		mu.Lock()
		defer mu.Unlock()
		configs[c] = as("app", password)
		return c
	}
	h := harnessAs(2, start, func(c *testserver.Cluster) etcd.Config {
		mu.Lock()
		defer mu.Unlock()
		return configs[c]
	})
	drivertest.RunBelow(t, h, below, "etcd")
}

// clientOf returns a client of the keys below the prefix.
func clientOf(t testing.TB, cfg etcd.Config, log *testlog.Log) kv.Client {
	t.Helper()
	return drivertest.Client(t, below, "etcd", log, func(o kv.Options) (driver.Store, error) { return etcd.Open(cfg, o.Logger) })
}

// TestReadOnlyRole reads and watches with the role for readers.
func TestReadOnlyRole(t *testing.T) {
	c, as := secured(t)
	grant(t, c, "app-reader", "etcd commands: read only")
	drivertest.ReadOnly(t, clientOf(t, as("app-reader", password), nil), clientOf(t, as(c.User(), c.Password()), nil))
}

// TestRevokedRole takes a user's role away and gives it back. etcd ends no
// watch for that; the next session is refused, after a lost connection here.
func TestRevokedRole(t *testing.T) {
	c, as := secured(t)
	grant(t, c, "app", "etcd commands: read and write")
	root := admin(t, c)
	proxy := servertest.Proxy(t, c.Endpoints()[0])
	cfg := as("app", password)
	cfg.Endpoints = []string{proxy.Addr()}
	log := &testlog.Log{}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	drivertest.Credentials{
		Client: clientOf(t, cfg, log), Root: clientOf(t, as(c.User(), c.Password()), nil), Log: log,
		Secrets: []string{password, c.Password()},
		Revoke: func() {
			_, err := root.UserRevokeRole(t.Context(), "app", "app")
			do(err)
			proxy.Cut()
			do(proxy.Heal())
		},
		Restore: func() {
			_, err := root.UserGrantRole(t.Context(), "app", "app")
			do(err)
		},
	}.Revoked(t)
}
