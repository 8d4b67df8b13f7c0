package coordination_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/locktest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/inmemory"
)

// TestLockHistories judges many histories in virtual time.
func TestLockHistories(t *testing.T) {
	total := locktest.History{Tally: map[locktest.Kind]int{}}
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			s := inmemory.NewStore()
			h := locktest.Run(t, locktest.Options{Seed: seed, TTL: ttl, Lasts: 20 * time.Minute, Open: func(int) driver.Store { return s.Open() }})
			for kind, n := range h.Tally {
				total.Tally[kind] += n
			}
			total.Late += h.Late
		})
	}
	t.Logf("%v, and %d acts of former holders, refused", total.Tally, total.Late)
	if total.Tally[locktest.Taken] < 1000 || total.Tally[locktest.Wrote] < 1000 || total.Tally[locktest.GivenBack] < 500 || total.Late < 10 {
		t.Errorf("too little happened: %v, and %d acts of former holders", total.Tally, total.Late)
	}
}

// backend is how the nodes of a cluster are opened, each participant by one of them
// where a client has one address.
type backend struct {
	start func(testing.TB, testserver.Options) *testserver.Cluster
	open  func(c *testserver.Cluster, node int) (driver.Store, error)
}

var backends = map[string]backend{
	"etcd": {servertest.Etcd, func(c *testserver.Cluster, _ int) (driver.Store, error) {
		cfg := etcd.DefaultConfig()
		cfg.Endpoints = c.Endpoints()
		return etcd.Open(cfg, quiet)
	}},
	"consul": {servertest.Consul, func(c *testserver.Cluster, node int) (driver.Store, error) {
		cfg := consul.DefaultConfig()
		cfg.Address = c.Endpoints()[node%c.Nodes()]
		return consul.Open(cfg, quiet)
	}},
}

func (b backend) history(t *testing.T, c *testserver.Cluster, ttl, lasts time.Duration, disrupt func(ctx context.Context)) {
	t.Helper()
	seed := rand.Uint64()
	h := locktest.Run(t, locktest.Options{Seed: seed, TTL: ttl, Lasts: lasts, Disrupt: disrupt, Open: func(i int) driver.Store {
		store, err := b.open(c, i)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}})
	t.Logf("seed %d: %v, and %d acts of former holders, refused", seed, h.Tally, h.Late)
	if h.Tally[locktest.Taken] == 0 || h.Tally[locktest.Wrote] == 0 {
		t.Errorf("nothing happened: %v", h.Tally)
	}
}

// TestLockHistoriesOnServers judges a history on each real server.
func TestLockHistoriesOnServers(t *testing.T) {
	t.Parallel()
	for name, b := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b.history(t, b.start(t, testserver.Options{NoFsync: true}), 2*time.Second, 20*time.Second, nil)
		})
	}
}

// TestLockHistoriesWithKilledLeaders judges histories on three servers, of which
// the one that leads is killed again and again.
func TestLockHistoriesWithKilledLeaders(t *testing.T) {
	t.Parallel()
	lasts := 30 * time.Second
	if drivertest.Soak() {
		lasts = 10 * time.Minute
	}
	for name, b := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := b.start(t, testserver.Options{Nodes: 3})
			killed := 0
			b.history(t, c, serverTTL, lasts, func(ctx context.Context) {
				for ctx.Err() == nil {
					locktest.Pause(ctx, time.Duration(rand.Int64N(int64(serverTTL))))
					leader, err := c.Leader(ctx)
					if err != nil {
						continue // ctx is done
					}
					if err := c.Kill(leader); err != nil {
						t.Error(err)
					}
					killed++
					locktest.Pause(ctx, time.Duration(rand.Int64N(int64(serverTTL))))
					if err := c.Restart(leader); err != nil {
						t.Error(err)
					}
					_ = c.WaitReady(ctx) // ends with ctx
				}
			})
			t.Logf("%d leaders were killed", killed)
			if killed == 0 {
				t.Error("no leader was killed")
			}
		})
	}
}
