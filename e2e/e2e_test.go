// Package e2e tests clients against real servers that break: the promises of
// kv.Client from end to end, through the driver and the engine.
package e2e

import (
	"log/slog"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
)

// backend is one kind of server with the driver for it.
type backend struct {
	name   string
	start  func(testing.TB, testserver.Options) *testserver.Cluster
	shared *servertest.Shared // serves the tests that don't break their server
	open   func(endpoints []string) (driver.Store, error)

	compact func(testing.TB, *testserver.Cluster) // drops the history; nil if there is none

	oneEndpoint  bool // a client knows one server only
	keeper       func(testing.TB, *testserver.Cluster) keeper
	storeChoices []choice    // faults of this store alone
	always       []namedPlan // besides those drawn: what no run may leave out, and what once failed
	failed       []uint64    // seeds of long rounds that once failed, without a shorter plan that does
}

var quiet = slog.New(slog.DiscardHandler)

// allKilled shows what clients ask of a cluster that is down.
var allKilled = namedPlan{what: "all servers killed", plan: plan{Servers: []fault{{kill, all, 2 * time.Second, time.Second, 0}}}}

var etcdBackend = backend{
	name:   "etcd",
	start:  servertest.Etcd,
	shared: servertest.SharedEtcd(testserver.Options{NoFsync: true}),
	open: func(endpoints []string) (driver.Store, error) {
		cfg := etcd.DefaultConfig()
		cfg.Endpoints = endpoints
		return etcd.Open(cfg, quiet)
	},
	compact: compactEtcd,
	keeper:  newEtcdKeeper,
	storeChoices: []choice{
		{3, compaction, all, 0, 0},
		{1, defrag, leader, 0, 0},
		{1, defrag, follower, 0, 0},
	},
	always: []namedPlan{allKilled},
}

var consulBackend = backend{
	name:   "consul",
	start:  servertest.Consul,
	shared: servertest.SharedConsul(testserver.Options{}),
	open: func(endpoints []string) (driver.Store, error) {
		cfg := consul.DefaultConfig()
		cfg.Address = endpoints[0]
		return consul.Open(cfg, quiet)
	},
	oneEndpoint:  true,
	keeper:       newConsulKeeper,
	storeChoices: []choice{{2, restore, all, second, 3 * second}},
	always: []namedPlan{allKilled, {
		what: "a backup restored while answers are lost",
		plan: plan{
			Servers: []fault{{restore, all, 1500 * time.Millisecond, 500 * time.Millisecond, 1}},
			Network: []fault{{swallow, all, 1800 * time.Millisecond, 100 * time.Millisecond, 1}},
		},
	}},
	failed: []uint64{13992343439969783527, 15193786938672926545}, // the checker misjudged deletions of unknown outcome in the second, and probably in the first
}

func TestMain(m *testing.M) {
	if config := os.Getenv(fleetVariable); config != "" {
		os.Exit(runFleetChild(config))
	}
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxiproxy writes to stderr, whatever logger it is given
	// toxiproxy leaves goroutines behind on connections that a toxic has closed.
	var options []goleak.Option
	for _, f := range []string{".(*ToxicLink).read", ".(*ToxicLink).write", "/toxics.(*ToxicStub).Run"} {
		options = append(options, goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2"+f))
	}
	goleak.VerifyTestMain(servertest.Main(m, etcdBackend.shared, consulBackend.shared), options...)
}

// onEach runs a test on every backend.
func onEach(t *testing.T, test func(t *testing.T, b backend)) {
	for _, b := range []backend{etcdBackend, consulBackend} {
		t.Run(b.name, func(t *testing.T) { test(t, b) })
	}
}

// onEachAmongOthers is onEach for a long test that has servers of its own: they run
// beside others, since most of their time goes by with servers that are down. The
// long forms have the machine for themselves, and so do fleets, which write all
// the time.
func onEachAmongOthers(t *testing.T, test func(t *testing.T, b backend)) {
	besides := os.Getenv("POLYKV_SOAK") == ""
	if besides {
		t.Parallel()
	}
	onEach(t, func(t *testing.T, b backend) {
		if besides {
			t.Parallel()
		}
		test(t, b)
	})
}

// client opens a client of its own, with string values.
func (b backend) client(t testing.TB, opts kv.Options, endpoints ...string) kv.Client {
	t.Helper()
	store, err := b.open(endpoints)
	if err != nil {
		t.Fatal(err)
	}
	opts.Backend, opts.Logger = b.name, quiet
	c := kv.New(store, codec.String{}, &opts)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func increment(in any) (any, bool, error) {
	n := 0
	if in != nil {
		s, _ := in.(string)
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			return nil, false, err
		}
	}
	return strconv.Itoa(n + 1), false, nil
}

func set(value string) func(any) (any, bool, error) {
	return func(any) (any, bool, error) { return value, false, nil }
}

func mustCAS(t testing.TB, c kv.Client, key, value string) {
	t.Helper()
	if err := c.CAS(t.Context(), key, set(value)); err != nil {
		t.Fatal(err)
	}
}

func mustDelete(t testing.TB, c kv.Client, key string) {
	t.Helper()
	if err := c.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// picture is what a watcher has seen last of each key.
type picture struct {
	mu    sync.Mutex
	state map[string]any
	calls int
}

func watchPicture(t testing.TB, c kv.Client, prefix string) *picture {
	t.Helper()
	p := &picture{state: map[string]any{}}
	ctx := t.Context()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.WatchPrefix(ctx, prefix, func(key string, value any) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.calls++
			if value == nil {
				delete(p.state, key)
			} else {
				p.state[key] = value
			}
			return true
		})
	}()
	t.Cleanup(func() { <-ended }) // t.Context is done by now
	return p
}

func (p *picture) equals(want map[string]any) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.state) != len(want) {
		return false
	}
	for key, value := range want {
		if p.state[key] != value {
			return false
		}
	}
	return true
}

// eventually waits until what holds, and fails the test after two minutes.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after two minutes it still does not hold that %s", what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks at the condition
	}
}
