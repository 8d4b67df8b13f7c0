package etcd_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/metrics"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, harness(t, 4, testserver.Options{NoFsync: true}).Declared("etcd"))
}

func BenchmarkConformance(b *testing.B) {
	conformance.RunBenchmarks(b, harness(b, 1, testserver.Options{}).Declared("etcd"))
}

func TestConformanceWrapped(t *testing.T) {
	h := harness(t, 3, testserver.Options{NoFsync: true}).Declared("etcd")
	h.Brief = os.Getenv("POLYKV_SOAK") == ""
	measured, err := metrics.New(prometheus.NewRegistry(), metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	byMetrics := conformance.Wrapper{
		Name: "metrics",
		Wrap: func(c kv.Client) (kv.Client, error) { return measured.Wrap(c, "etcd"), nil },
	}
	for _, w := range append(conformance.Wrappers(), byMetrics) {
		t.Run(w.Name, func(t *testing.T) { conformance.Run(t, h.Wrapped(w)) })
	}
}

func TestConformanceOfCluster(t *testing.T) {
	conformance.Run(t, harness(t, 1, testserver.Options{Nodes: 3, NoFsync: true}).Declared("etcd, three nodes"))
}

// harness has n clusters, of which each case gets one for itself.
func harness(t testing.TB, n int, o testserver.Options) conformance.Harness {
	t.Helper()
	free := make(chan *testserver.Cluster, n)
	for range n {
		free <- servertest.Etcd(t, o)
	}
	return conformance.Harness{
		Parallel: n,
		New: func(t conformance.T) conformance.Store {
			c := <-free
			t.Cleanup(func() { free <- c })
			s := server{c}
			if err := s.admin(t.Context(), wipe); err != nil {
				t.Fatalf("emptying the server: %v", err)
			}
			store := conformance.Store{
				Open: s.open, OpenLine: s.openLine, OpenDriver: s.openDriver, Plant: s.plant,
				Restart: s.restart, Compact: s.compact, Snapshot: s.snapshot,
			}
			if c.Nodes() > 1 {
				store.ChangeLeader, store.Snapshot = s.changeLeader, nil
			}
			return store
		},
	}
}

// server is a cluster as a case may use and break it.
type server struct{ *testserver.Cluster }

func (s server) config() etcd.Config {
	cfg := etcd.DefaultConfig()
	cfg.Endpoints = s.Endpoints()
	return cfg
}

func (s server) openDriver() (driver.Store, error) { return etcd.Open(s.config(), nil) }

func (s server) open(c codec.Codec, o kv.Options) (kv.Client, error) {
	store, err := etcd.Open(s.config(), o.Logger)
	if err != nil {
		return nil, err
	}
	o.Backend = "etcd"
	return kv.New(store, c, &o), nil
}

// line breaks the connection itself, and withholds answers above the driver,
// where writes can be told from other requests.
type line struct {
	*conformance.StoreLine
	proxy *testserver.Proxy
}

func (l line) Cut()  { l.proxy.Cut() }
func (l line) Hang() { l.proxy.Hang() }

func (l line) Mend() {
	if err := l.proxy.Heal(); err != nil {
		panic(err) // the port is ours
	}
}

func (l line) Close() error {
	defer l.proxy.Close()
	return l.StoreLine.Close()
}

func (s server) openLine(c codec.Codec, o kv.Options) (kv.Client, conformance.Line, error) {
	proxy, err := testserver.NewProxy(s.Endpoints()[0])
	if err != nil {
		return nil, nil, err
	}
	cfg := s.config()
	cfg.Endpoints = []string{proxy.Addr()}
	store, err := etcd.Open(cfg, o.Logger)
	if err != nil {
		proxy.Close()
		return nil, nil, err
	}
	o.Backend = "etcd"
	l := line{conformance.Breakable(store), proxy}
	return kv.New(l, c, &o), l, nil
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

// restart ends the servers as a power failure would. Gracefully they take
// seconds to see their watches off.
func (s server) restart(ctx context.Context) error {
	if err := s.Kill(); err != nil {
		return err
	}
	if err := s.Restart(); err != nil {
		return err
	}
	return s.WaitReady(ctx)
}

// changeLeader kills the leader and brings it back as a follower.
func (s server) changeLeader(ctx context.Context) error {
	old, err := s.Leader(ctx)
	if err != nil {
		return err
	}
	if err := s.Kill(old); err != nil {
		return err
	}
	if _, err := s.Leader(ctx); err != nil {
		return err
	}
	if err := s.Restart(old); err != nil {
		return err
	}
	return s.WaitReady(ctx)
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

// snapshot copies the folder of a server that is down.
func (s server) snapshot(ctx context.Context) (restore func(context.Context) error, err error) {
	saved, err := os.MkdirTemp("", "backup")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(filepath.Dir(s.LogFile(0)), "data")
	copyTo := func(ctx context.Context, to, from string) error {
		return errors.Join(s.Kill(), os.RemoveAll(to), os.CopyFS(to, os.DirFS(from)), s.restart(ctx))
	}
	return func(ctx context.Context) error {
		return errors.Join(copyTo(ctx, data, saved), os.RemoveAll(saved))
	}, copyTo(ctx, saved, data)
}
