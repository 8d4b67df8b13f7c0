package testserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/polykv/polykv/internal/testserver/pinned"
)

type etcdServer struct{}

func (etcdServer) tool() pinned.Tool                  { return pinned.Etcd() }
func (etcdServer) portsPerNode() int                  { return 2 }
func (etcdServer) clientPort(_ *Cluster, n *node) int { return n.ports[0] }

func etcdName(n *node) string { return "node" + strconv.Itoa(n.index) }

// etcdPeerURL has no TLS: what is offered on request is TLS for clients.
func etcdPeerURL(n *node) string { return "http://" + address(n.ports[1]) }

func (etcdServer) args(c *Cluster, n *node) ([]string, error) {
	var members []string
	for _, m := range c.nodes {
		members = append(members, etcdName(m)+"="+etcdPeerURL(m))
	}
	args := []string{
		"--name=" + etcdName(n),
		"--data-dir=" + filepath.Join(n.dir, "data"),
		"--listen-client-urls=" + c.url(n),
		"--advertise-client-urls=" + c.url(n),
		"--listen-peer-urls=" + etcdPeerURL(n),
		"--initial-advertise-peer-urls=" + etcdPeerURL(n),
		"--initial-cluster=" + strings.Join(members, ","),
		"--initial-cluster-state=new",
		"--initial-cluster-token=" + filepath.Base(c.dir), // clusters that meet by accident refuse each other
		"--auto-compaction-retention=0",
		"--log-outputs=stderr",
		"--bcrypt-cost=4", // the passwords guard nothing, and hashing them well takes a test's time
	}
	if c.options.TLS {
		args = append(args, "--cert-file="+c.serverCert.CertFile, "--key-file="+c.serverCert.KeyFile)
	}
	if c.options.ClientAuth {
		args = append(args, "--client-cert-auth", "--trusted-ca-file="+c.authority.File())
	}
	if c.options.NoFsync {
		args = append(args, "--unsafe-no-fsync")
	}
	if c.options.QuotaBytes > 0 {
		args = append(args, "--quota-backend-bytes="+strconv.FormatInt(c.options.QuotaBytes, 10))
	}
	return args, nil
}

// ready relies on /health, which reads the store through Raft.
func (etcdServer) ready(ctx context.Context, c *Cluster, n *node) error {
	r, err := c.request(ctx, n, http.MethodGet, "/health", nil)
	if err != nil {
		return err
	}
	return r.ok(http.StatusOK)
}

func (etcdServer) leads(ctx context.Context, c *Cluster, n *node) (bool, uint64, error) {
	client, err := c.EtcdClient(n.index)
	if err != nil {
		return false, 0, err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	status, err := client.Status(ctx, c.endpoint(n))
	if err != nil {
		return false, 0, err
	}
	return status.Leader == status.Header.MemberId, status.RaftTerm, nil
}

// secure makes the root user. There is no user yet, so the client that does it must not try to log in.
func (etcdServer) secure(ctx context.Context, c *Cluster) error {
	config := c.etcdConfig()
	config.Username, config.Password = "", ""
	client, err := clientv3.New(config)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if _, err := client.UserAdd(ctx, c.user, c.password); err != nil {
		return err
	}
	if _, err := client.UserGrantRole(ctx, c.user, "root"); err != nil {
		return err
	}
	_, err = client.AuthEnable(ctx)
	return err
}

func (c *Cluster) etcdConfig(nodes ...int) clientv3.Config {
	endpoints := c.URLs()
	if len(nodes) > 0 {
		endpoints = nil
		for _, i := range nodes {
			endpoints = append(endpoints, c.url(c.nodes[i]))
		}
	}
	return clientv3.Config{
		Endpoints:   endpoints,
		DialTimeout: requestTimeout,
		TLS:         c.TLSConfig(),
		Username:    c.user,
		Password:    c.password,
		Logger:      zap.NewNop(),
	}
}

// EtcdClient returns a plain etcd client of the given servers, or of all if none is given, with the rights of the
// root user. The caller closes it.
func (c *Cluster) EtcdClient(nodes ...int) (*clientv3.Client, error) {
	if _, ok := c.server.(etcdServer); !ok {
		return nil, fmt.Errorf("testserver: %w: this is not etcd", errors.ErrUnsupported)
	}
	return clientv3.New(c.etcdConfig(nodes...))
}

// A Permission is what an etcd user may do below a prefix.
type Permission struct {
	Prefix string // empty: all keys
	Read   bool
	Write  bool
}

// AddUser gives an etcd cluster with Options.Auth one more user.
func (c *Cluster) AddUser(ctx context.Context, name, password string, may ...Permission) error {
	client, err := c.EtcdClient()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if _, err := client.UserAdd(ctx, name, password); err != nil {
		return fmt.Errorf("testserver: add user %s: %w", name, err)
	}
	if _, err := client.RoleAdd(ctx, name); err != nil {
		return fmt.Errorf("testserver: add role %s: %w", name, err)
	}
	for _, p := range may {
		end := clientv3.GetPrefixRangeEnd(p.Prefix)
		key := p.Prefix
		if key == "" {
			key, end = "\x00", "\x00" // etcd's words for every key
		}
		if _, err := client.RoleGrantPermission(ctx, name, key, end, p.kind()); err != nil {
			return fmt.Errorf("testserver: grant %q to %s: %w", p.Prefix, name, err)
		}
	}
	if _, err := client.UserGrantRole(ctx, name, name); err != nil {
		return fmt.Errorf("testserver: grant role %s: %w", name, err)
	}
	return nil
}

func (p Permission) kind() clientv3.PermissionType {
	switch {
	case p.Read && p.Write:
		return clientv3.PermissionType(clientv3.PermReadWrite)
	case p.Write:
		return clientv3.PermissionType(clientv3.PermWrite)
	default:
		return clientv3.PermissionType(clientv3.PermRead)
	}
}
