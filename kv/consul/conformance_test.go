package consul_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/metrics"
)

func TestConformance(t *testing.T) {
	conformance.Run(t, harness(t, 4, testserver.Options{}).Declared("consul"))
}

func TestConformanceWrapped(t *testing.T) {
	h := harness(t, 3, testserver.Options{}).Declared("consul")
	h.Brief = os.Getenv("POLYKV_SOAK") == ""
	measured, err := metrics.New(prometheus.NewRegistry(), metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	byMetrics := conformance.Wrapper{
		Name: "metrics",
		Wrap: func(c kv.Client) (kv.Client, error) { return measured.Wrap(c, "consul"), nil },
	}
	for _, w := range append(conformance.Wrappers(), byMetrics) {
		t.Run(w.Name, func(t *testing.T) { conformance.Run(t, h.Wrapped(w)) })
	}
}

func TestConformanceOfCluster(t *testing.T) {
	conformance.Run(t, harness(t, 1, testserver.Options{Nodes: 3}).Declared("consul, three nodes"))
}

// harness has n clusters, of which each case gets one for itself.
func harness(t *testing.T, n int, o testserver.Options) conformance.Harness {
	t.Helper()
	free := make(chan *testserver.Cluster, n)
	for range n {
		free <- servertest.Consul(t, o)
	}
	return conformance.Harness{
		Parallel: n,
		New: func(t conformance.T) conformance.Store {
			c := <-free
			t.Cleanup(func() { free <- c })
			s := server{c}
			if err := s.wipe(t.Context()); err != nil {
				t.Fatalf("emptying the server: %v", err)
			}
			store := conformance.Store{
				Open: s.open, OpenLine: s.openLine, OpenDriver: s.openDriver, Plant: s.plant,
				Restart: s.restart, Snapshot: s.snapshot,
			}
			if c.Nodes() > 1 {
				store.ChangeLeader = s.changeLeader
			}
			return store
		},
	}
}

// server is a cluster as a case may use and break it.
type server struct{ *testserver.Cluster }

func (s server) config() consul.Config {
	cfg := consul.DefaultConfig()
	cfg.Address = s.URLs()[0]
	return cfg
}

func (s server) openDriver() (driver.Store, error) { return consul.Open(s.config(), nil) }

func (s server) open(c codec.Codec, o kv.Options) (kv.Client, error) {
	store, err := consul.Open(s.config(), o.Logger)
	if err != nil {
		return nil, err
	}
	o.Backend = "consul"
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
	cfg.Address = proxy.Addr()
	store, err := consul.Open(cfg, o.Logger)
	if err != nil {
		proxy.Close()
		return nil, nil, err
	}
	o.Backend = "consul"
	l := line{conformance.Breakable(store), proxy}
	return kv.New(l, c, &o), l, nil
}

// admin runs f with a plain client of the servers.
func (s server) admin(f func(*api.Client) error) error {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c, err := api.NewClient(&api.Config{Address: s.URLs()[0], HttpClient: &http.Client{Transport: transport}})
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

// restart ends the servers as a power failure would.
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
