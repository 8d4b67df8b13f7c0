package nats

import (
	"errors"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv/driver"
)

// A server in this process leaves some of its own behind, now and then, when it is
// shut down amid requests.
func TestMain(m *testing.M) {
	const of = "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(of+".(*fileStore).flushStreamStateLoop"), goleak.IgnoreAnyFunction(of+"/ats.Register.func1"))
}

// tb is what testing.TB and conformance.T have in common.
type tb interface {
	Helper()
	Cleanup(func())
	TempDir() string
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// node is one server in this process, which can be stopped and started again with
// its data and on its port.
type node struct {
	opts *server.Options
	*server.Server
}

// start starts one server, which ends with the test. change, unless nil, changes
// its options.
func start(t tb, change func(*server.Options)) *node {
	t.Helper()
	for range 10 {
		ports, release, err := testserver.ReservePorts(1)
		if err != nil {
			t.Fatalf("%v", err)
		}
		n := &node{opts: &server.Options{
			Host: "127.0.0.1", Port: ports[0], JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		}}
		if change != nil {
			change(n.opts)
		}
		if n.up() != nil {
			release() // somebody took the port
			continue
		}
		t.Cleanup(func() { n.down(); release() })
		return n
	}
	t.Fatalf("no server could be started")
	return nil
}

// up starts the server.
func (n *node) up() error {
	opts := *n.opts
	s, err := server.NewServer(&opts)
	if err != nil {
		return err
	}
	n.Server = s
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return errors.New("the server did not start")
	}
	return nil
}

func (n *node) down() {
	n.Shutdown()
	n.WaitForShutdown()
}

// addr returns the server's host:port.
func (n *node) addr() string { return "127.0.0.1:" + strconv.Itoa(n.opts.Port) }

// config returns the configuration of clients of the server.
func (n *node) config() Config {
	cfg := *NewConfig()
	cfg.Servers = []string{n.addr()}
	return cfg
}

// open returns a handle that ends with the test.
func open(t testing.TB, cfg Config) *store {
	t.Helper()
	s, err := Open(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s.(*store)
}

func closeStore(t testing.TB, s driver.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
