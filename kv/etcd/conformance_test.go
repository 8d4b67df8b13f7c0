package etcd_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	conformance.Run(t, harness(t, 4, testserver.Options{NoFsync: true}).Declared("etcd"))
}

func BenchmarkConformance(b *testing.B) {
	conformance.RunBenchmarks(b, harness(b, 1, testserver.Options{}).Declared("etcd"))
}

func TestConformanceWrapped(t *testing.T) {
	t.Parallel()
	drivertest.RunWrapped(t, harness(t, 3, testserver.Options{NoFsync: true}).Declared("etcd"), "etcd")
}

func TestConformanceOfCluster(t *testing.T) {
	t.Parallel()
	conformance.Run(t, harness(t, 2, testserver.Options{Nodes: 3, NoFsync: true}).Declared("etcd, three nodes"))
}

// harness has n clusters, of which each case gets one for itself.
func harness(t testing.TB, n int, o testserver.Options) conformance.Harness {
	t.Helper()
	start := func() *testserver.Cluster { return servertest.Etcd(t, o) }
	return harnessAs(n, start, func(*testserver.Cluster) etcd.Config { return etcd.DefaultConfig() })
}

// harnessAs is harness for clients with another configuration.
func harnessAs(n int, start func() *testserver.Cluster, config func(*testserver.Cluster) etcd.Config) conformance.Harness {
	return drivertest.Harness(n, start, func(t conformance.T, c *testserver.Cluster) conformance.Store {
		s := serverOf(c, config(c))
		if err := s.admin(t.Context(), wipe); err != nil {
			t.Fatalf("emptying the server: %v", err)
		}
		store := s.Store()
		store.Plant, store.Compact, store.Full = s.plant, s.compact, s.full
		if c.Nodes() == 1 {
			store.Snapshot = s.snapshot
		}
		return store
	})
}

// server is a cluster as a case may use and break it.
type server struct{ drivertest.Server }

func serverOf(c *testserver.Cluster, cfg etcd.Config) server {
	return server{drivertest.Server{Cluster: c, Backend: "etcd", OpenStore: func(addr string, log *slog.Logger) (driver.Store, error) {
		cfg := cfg
		cfg.Endpoints = c.Endpoints()
		if addr != "" {
			cfg.Endpoints = []string{addr}
		}
		return etcd.Open(cfg, log)
	}}}
}

// admin runs f with a plain client of the servers.
func (s server) admin(ctx context.Context, f func(context.Context, *clientv3.Client) error) error {
	c, err := s.EtcdClient()
	if err != nil {
		return err
	}
	return errors.Join(f(ctx, c), c.Close())
}

func wipe(ctx context.Context, c *clientv3.Client) error {
	_, err := c.Delete(ctx, "\x00", clientv3.WithFromKey())
	return err
}

func (s server) plant(ctx context.Context, key string, value []byte) error {
	return s.admin(ctx, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Put(ctx, key, string(value))
		return err
	})
}

func (s server) compact(ctx context.Context) error {
	return s.admin(ctx, func(ctx context.Context, c *clientv3.Client) error {
		now, err := c.Get(ctx, "any")
		if err != nil {
			return err
		}
		_, err = c.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
		return err
	})
}

// full raises the alarm that a server raises when it is over its quota, for
// which TestFullDatabase writes it full.
func (s server) full(ctx context.Context) (drain func(context.Context) error, err error) {
	alarm := func(ctx context.Context, action pb.AlarmRequest_AlarmAction) error {
		return s.admin(ctx, func(ctx context.Context, c *clientv3.Client) error {
			status, err := c.Status(ctx, c.Endpoints()[0])
			if err != nil {
				return err
			}
			_, err = pb.NewMaintenanceClient(c.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{
				MemberID: status.Header.MemberId, Action: action, Alarm: pb.AlarmType_NOSPACE,
			})
			return err
		})
	}
	return func(ctx context.Context) error { return alarm(ctx, pb.AlarmRequest_DEACTIVATE) }, alarm(ctx, pb.AlarmRequest_ACTIVATE)
}

// snapshot copies the folder of a server that is down.
func (s server) snapshot(ctx context.Context) (restore func(context.Context) error, err error) {
	saved, err := os.MkdirTemp("", "backup")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(filepath.Dir(s.LogFile(0)), "data")
	copyTo := func(ctx context.Context, to, from string) error {
		return errors.Join(s.Kill(), os.RemoveAll(to), os.CopyFS(to, os.DirFS(from)), s.Reboot(ctx))
	}
	return func(ctx context.Context) error {
		return errors.Join(copyTo(ctx, data, saved), os.RemoveAll(saved))
	}, copyTo(ctx, saved, data)
}
