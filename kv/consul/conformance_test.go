package consul_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	conformance.Run(t, harness(t, 4, testserver.Options{}).Declared("consul"))
}

func BenchmarkConformance(b *testing.B) {
	conformance.RunBenchmarks(b, harness(b, 1, testserver.Options{}).Declared("consul"))
}

func TestConformanceWrapped(t *testing.T) {
	t.Parallel()
	drivertest.RunWrapped(t, harness(t, 3, testserver.Options{}).Declared("consul"), "consul")
}

func TestConformanceOfCluster(t *testing.T) {
	t.Parallel()
	conformance.Run(t, harness(t, 2, testserver.Options{Nodes: 3}).Declared("consul, three nodes"))
}

// harness has n clusters, of which each case gets one for itself.
func harness(t testing.TB, n int, o testserver.Options) conformance.Harness {
	t.Helper()
	start := func() *testserver.Cluster { return servertest.Consul(t, o) }
	return harnessAs(n, start, func(*testserver.Cluster) consul.Config { return consul.DefaultConfig() })
}

// harnessAs is harness for clients with another configuration.
func harnessAs(n int, start func() *testserver.Cluster, config func(*testserver.Cluster) consul.Config) conformance.Harness {
	return drivertest.Harness(n, start, func(t conformance.T, c *testserver.Cluster) conformance.Store {
		s := serverOf(c, config(c))
		if err := s.wipe(t.Context()); err != nil {
			t.Fatalf("emptying the server: %v", err)
		}
		store := s.Store()
		store.Plant, store.Snapshot = s.plant, s.snapshot
		return store
	})
}

// server is a cluster as a case may use and break it.
type server struct{ drivertest.Server }

func serverOf(c *testserver.Cluster, cfg consul.Config) server {
	return server{drivertest.Server{Cluster: c, Backend: "consul", OpenStore: func(addr string, log *slog.Logger) (driver.Store, error) {
		cfg := cfg
		if cfg.Address = c.Endpoints()[0]; addr != "" {
			cfg.Address = addr
		}
		return consul.Open(cfg, log)
	}}}
}

// admin runs f with a plain client of the servers.
func (s server) admin(f func(*api.Client) error) error {
	transport := &http.Transport{TLSClientConfig: s.TLSConfig()}
	defer transport.CloseIdleConnections()
	c, err := api.NewClient(&api.Config{Address: s.URLs()[0], Token: s.Token(), HttpClient: &http.Client{Transport: transport}})
	if err != nil {
		return err
	}
	return f(c)
}

func (s server) wipe(ctx context.Context) error {
	return s.admin(func(c *api.Client) error {
		_, err := c.KV().DeleteTree("", (&api.WriteOptions{}).WithContext(ctx))
		return err
	})
}

// plant uses a transaction, which takes any key.
func (s server) plant(ctx context.Context, key string, value []byte) error {
	return s.admin(func(c *api.Client) error {
		set := api.TxnOps{{KV: &api.KVTxnOp{Verb: api.KVSet, Key: key, Value: value}}}
		ok, _, _, err := c.Txn().Txn(set, (&api.QueryOptions{}).WithContext(ctx))
		if err == nil && !ok {
			err = errors.New("the transaction was rolled back")
		}
		return err
	})
}

func (s server) snapshot(ctx context.Context) (restore func(context.Context) error, err error) {
	var saved []byte
	err = s.admin(func(c *api.Client) error {
		r, _, err := c.Snapshot().Save((&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		defer func() { _ = r.Close() }()
		saved, err = io.ReadAll(r)
		return err
	})
	return func(ctx context.Context) error {
		return s.admin(func(c *api.Client) error {
			return c.Snapshot().Restore((&api.WriteOptions{}).WithContext(ctx), bytes.NewReader(saved))
		})
	}, err
}
