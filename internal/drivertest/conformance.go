package drivertest

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/metrics"
)

// Soak reports whether POLYKV_SOAK asks for the long forms of tests.
func Soak() bool { return os.Getenv("POLYKV_SOAK") != "" }

// Harness has n clusters, of which each case gets one for itself. store makes
// it empty and says what it offers.
func Harness(n int, start func() *testserver.Cluster, store func(t conformance.T, c *testserver.Cluster) conformance.Store) conformance.Harness {
	free := make(chan *testserver.Cluster, n)
	for range n {
		free <- nil // the first case that gets it starts it, so that several start at once
	}
	return conformance.Harness{
		Parallel: n,
		New: func(t conformance.T) conformance.Store {
			c := <-free
			t.Cleanup(func() { free <- c })
			if c == nil {
				c = start()
			}
			return store(t, c)
		},
	}
}

// RunWrapped runs the suite over h with each of kv's wrappers, all at once: one
// case for each rule, or all of it in a soak. The cases that look at the driver
// itself go past a wrapper, and are left to the run without one.
func RunWrapped(t *testing.T, h conformance.Harness, backend string) {
	t.Helper()
	h = withoutDriver(h)
	h.Brief = !Soak()
	measured, err := metrics.New(prometheus.NewRegistry(), metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	byMetrics := conformance.Wrapper{
		Name: "metrics",
		Wrap: func(c kv.Client) (kv.Client, error) { return measured.Wrap(c, backend), nil },
	}
	var all sync.WaitGroup
	for _, w := range append(conformance.Wrappers(), byMetrics) {
		all.Go(func() {
			t.Run(w.Name, func(t *testing.T) { conformance.Run(t, h.Wrapped(w)) })
		})
	}
	all.Wait()
}

// Server is a cluster as a case may use and break it.
type Server struct {
	*testserver.Cluster
	Backend string

	// OpenStore opens a handle through an address, or as usual if it is empty.
	OpenStore func(addr string, log *slog.Logger) (driver.Store, error)
}

// Store offers what all servers have in common.
func (s Server) Store() conformance.Store {
	store := conformance.Store{
		Leases: s.leases(),
		Open:   s.open, OpenLine: s.openLine, Restart: s.Reboot,
		OpenDriver: func() (driver.Store, error) { return s.OpenStore("", nil) },
	}
	if s.Nodes() > 1 {
		store.ChangeLeader = s.changeLeader
	}
	return store
}

// leases reports whether the driver grants leases.
func (s Server) leases() bool {
	store, err := s.OpenStore("", nil)
	if err != nil {
		return false // the case will say so
	}
	defer store.Close()
	l, ok := store.(driver.Leaser)
	return ok && l.MinLease() > 0
}

func (s Server) open(c codec.Codec, o kv.Options) (kv.Client, error) {
	store, err := s.OpenStore("", o.Logger)
	if err != nil {
		return nil, err
	}
	o.Backend = s.Backend
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

func (s Server) openLine(c codec.Codec, o kv.Options) (kv.Client, conformance.Line, error) {
	return OpenLine(s.Endpoints()[0], s.Backend, s.OpenStore, c, o)
}

// OpenLine opens a client whose connections to target go through a proxy.
// openStore opens a handle through an address.
func OpenLine(target, backend string, openStore func(addr string, log *slog.Logger) (driver.Store, error), c codec.Codec, o kv.Options) (kv.Client, conformance.Line, error) {
	proxy, err := testserver.NewProxy(target)
	if err != nil {
		return nil, nil, err
	}
	store, err := openStore(proxy.Addr(), o.Logger)
	if err != nil {
		proxy.Close()
		return nil, nil, err
	}
	o.Backend = backend
	l := line{conformance.Breakable(store), proxy}
	return kv.New(l, c, &o), l, nil
}

// Reboot ends the servers as a power failure would, and starts them again.
// Gracefully, etcd takes seconds to see its watches off.
func (s Server) Reboot(ctx context.Context) error {
	if err := s.Kill(); err != nil {
		return err
	}
	if err := s.Cluster.Restart(); err != nil {
		return err
	}
	return s.WaitReady(ctx)
}

// changeLeader kills the leader and brings it back as a follower.
func (s Server) changeLeader(ctx context.Context) error {
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
	if err := s.Cluster.Restart(old); err != nil {
		return err
	}
	return s.WaitReady(ctx)
}
