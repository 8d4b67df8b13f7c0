package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hashicorp/consul/api"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
)

// consulKeeper gives every client a token of its own, in a file. A token that
// was taken away never comes back: another one is put into the file.
type consulKeeper struct {
	cluster   *testserver.Cluster
	dir       string
	accessors map[int]string
}

const consulRules = `key_prefix "round/" { policy = "write" }`

func newConsulKeeper(t testing.TB, c *testserver.Cluster) keeper {
	t.Helper()
	k := &consulKeeper{cluster: c, dir: t.TempDir(), accessors: map[int]string{}}
	ctx := t.Context()
	err := withConsul(ctx, c, func(client *api.Client) error {
		_, _, err := client.ACL().PolicyCreate(&api.ACLPolicy{Name: "worker", Rules: consulRules}, nil)
		return err
	})
	for id := adminMember; id < membersPerRound; id++ {
		if err == nil {
			err = k.grant(ctx, id)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *consulKeeper) file(member int) string {
	return filepath.Join(k.dir, "token-"+strconv.Itoa(member))
}

func (k *consulKeeper) open(t testing.TB, member int, endpoints []string) driver.Store {
	t.Helper()
	cfg := consul.DefaultConfig()
	cfg.Address, cfg.TokenFile = endpoints[0], k.file(member)
	store, err := consul.Open(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func (k *consulKeeper) revoke(ctx context.Context, member int) error {
	return withConsul(ctx, k.cluster, func(c *api.Client) error {
		_, err := c.ACL().TokenDelete(k.accessors[member], (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
}

func (k *consulKeeper) grant(ctx context.Context, member int) error {
	return withConsul(ctx, k.cluster, func(c *api.Client) error {
		// An api.ACLToken has fields today that the pinned server refuses.
		body := map[string]any{"Policies": []*api.ACLLink{{Name: "worker"}}}
		var token api.ACLToken
		if _, err := c.Raw().Write("/v1/acl/token", body, &token, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
			return err
		}
		k.accessors[member] = token.AccessorID
		fresh := k.file(member) + ".new" // so that nobody reads half of it
		if err := os.WriteFile(fresh, []byte(token.SecretID+"\n"), 0o600); err != nil {
			return err
		}
		return os.Rename(fresh, k.file(member))
	})
}

// etcdKeeper gives every client a user of its own.
type etcdKeeper struct{ cluster *testserver.Cluster }

const etcdPassword = "of a test"

func newEtcdKeeper(t testing.TB, c *testserver.Cluster) keeper {
	t.Helper()
	k := etcdKeeper{c}
	for id := adminMember; id < membersPerRound; id++ {
		may := testserver.Permission{Prefix: "round/", Read: true, Write: true}
		if err := c.AddUser(t.Context(), k.user(id), etcdPassword, may); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func (etcdKeeper) user(member int) string { return fmt.Sprintf("member%d", member) }

func (k etcdKeeper) open(t testing.TB, member int, endpoints []string) driver.Store {
	t.Helper()
	cfg := etcd.DefaultConfig()
	cfg.Endpoints, cfg.Username, cfg.Password = endpoints, k.user(member), config.NewSecret(etcdPassword)
	store, err := etcd.Open(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func (k etcdKeeper) revoke(ctx context.Context, member int) error {
	return withEtcd(k.cluster, func(c *clientv3.Client) error {
		_, err := c.RoleRevokePermission(ctx, k.user(member), "round/", clientv3.GetPrefixRangeEnd("round/"))
		return err
	})
}

func (k etcdKeeper) grant(ctx context.Context, member int) error {
	return withEtcd(k.cluster, func(c *clientv3.Client) error {
		_, err := c.RoleGrantPermission(ctx, k.user(member), "round/", clientv3.GetPrefixRangeEnd("round/"), clientv3.PermissionType(clientv3.PermReadWrite))
		return err
	})
}
