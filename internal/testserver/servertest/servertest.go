// Package servertest gives tests and benchmarks real servers. A test that can't have its etcd or Consul fails; it
// never skips. PostgreSQL isn't built here.
package servertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/testserver"
)

// timeout allows for compiling a server, which happens once per user.
const timeout = 15 * time.Minute

type startFunc = func(context.Context, testserver.Options) (*testserver.Cluster, error)

// Etcd starts an etcd cluster that ends with the test.
func Etcd(t testing.TB, o testserver.Options) *testserver.Cluster {
	t.Helper()
	c, err := startWithin(testserver.StartEtcd, o, t.Output())
	return until(t, c, err)
}

// Consul starts a Consul cluster that ends with the test.
func Consul(t testing.TB, o testserver.Options) *testserver.Cluster {
	t.Helper()
	c, err := startWithin(testserver.StartConsul, o, t.Output())
	return until(t, c, err)
}

// Postgres returns a PostgreSQL that has no data yet and ends with the test. Where none is installed, the test is skipped.
func Postgres(t testing.TB) *testserver.Postgres {
	t.Helper()
	s, err := testserver.NewPostgres()
	if errors.Is(err, testserver.ErrNoPostgres) {
		t.Skip(err)
	}
	return until(t, s, err)
}

// until closes a server at the end of the test, which fails if there is none.
func until[S io.Closer](t testing.TB, s S, err error) S {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func startWithin(start startFunc, o testserver.Options, log io.Writer) (*testserver.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if o.Log == nil {
		o.Log = log
	}
	return start(ctx, o)
}

// Proxy starts a proxy in front of a server's endpoint; it ends with the test.
func Proxy(t testing.TB, endpoint string) *testserver.Proxy {
	t.Helper()
	p, err := testserver.NewProxy(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// WaitReady waits, for at most a minute, until the servers serve.
func WaitReady(t testing.TB, c *testserver.Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// Leader waits, for at most a minute, until one of the servers leads.
func Leader(t testing.TB, c *testserver.Cluster) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	leader, err := c.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return leader
}

// A Shared cluster is started by the first test of a package that asks for it, and used by all that do. Tests keep
// apart by their keys. Main ends it.
type Shared struct {
	start   startFunc
	options testserver.Options

	mu      sync.Mutex
	cluster *testserver.Cluster
	err     error
}

// SharedEtcd returns an etcd cluster to share.
func SharedEtcd(o testserver.Options) *Shared {
	return &Shared{start: testserver.StartEtcd, options: o}
}

// SharedConsul returns a Consul cluster to share.
func SharedConsul(o testserver.Options) *Shared {
	return &Shared{start: testserver.StartConsul, options: o}
}

// Get returns the cluster, having started it if need be. If that failed once, every test that needs it fails.
func (s *Shared) Get(t testing.TB) *testserver.Cluster {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil && s.err == nil {
		s.cluster, s.err = startWithin(s.start, s.options, os.Stderr)
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.cluster
}

func (s *Shared) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil {
		return nil
	}
	return s.cluster.Close()
}

// A TestingM is a *testing.M, or what stands for one.
type TestingM interface{ Run() int }

// Main returns an m that ends the shared clusters after the tests, so that a check for leaks may follow:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(servertest.Main(m, etcd)) }
func Main(m TestingM, shared ...*Shared) TestingM { return &closingMain{TestingM: m, shared: shared} }

type closingMain struct {
	TestingM
	shared []*Shared
}

func (m *closingMain) Run() int {
	code := m.TestingM.Run()
	for _, s := range m.shared {
		if err := s.close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	return code
}
