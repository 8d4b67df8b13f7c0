package coordination_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/internal/locktest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/inmemory"
)

// TestLockHistories judges many histories in virtual time.
func TestLockHistories(t *testing.T) {
	total := locktest.History{Tally: map[string]int{}}
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
	if total.Tally[locktest.Taken] < 5000 || total.Tally[locktest.Wrote] < 5000 || total.Tally[locktest.GivenBack] < 2500 || total.Late < 500 {
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

// history runs and judges one, and in the soak mode for o.Lasts wholly.
func (b backend) history(t *testing.T, c *testserver.Cluster, o locktest.Options) {
	t.Helper()
	o.Seed = rand.Uint64()
	o.Open = func(i int) driver.Store {
		store, err := b.open(c, i)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	h := locktest.Run(t, o)
	t.Logf("seed %d: %v, and %d acts of former holders (without a fence: %t)", o.Seed, h.Tally, h.Late, o.Unfenced)
}

// historyTTL is short, for many holds and late acts. A machine that is too busy for
// its beats makes a run longer.
const historyTTL = 2 * time.Second

// enough is what a history on servers goes on for, unless in a soak.
var enough = locktest.Options{TTL: historyTTL, Lasts: 15 * time.Minute, Holds: 12, Late: 3}

// TestLockHistoriesOnServers judges a history on each real server.
func TestLockHistoriesOnServers(t *testing.T) {
	t.Parallel()
	for name, b := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b.history(t, b.start(t, testserver.Options{NoFsync: true}), enough)
		})
	}
}

// TestLockHistoriesWithKilledLeaders judges histories on three servers, of which
// the one that leads is killed again and again. One without the fence is noticed.
func TestLockHistoriesWithKilledLeaders(t *testing.T) {
	t.Parallel()
	for name, b := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := b.start(t, testserver.Options{Nodes: 3})
			killed := 0
			o := enough
			o.Disrupt = func(ctx context.Context) {
				for ctx.Err() == nil {
					_ = wait.For(ctx, time.Duration(rand.Int64N(int64(4*historyTTL))))
					leader, err := c.Leader(ctx)
					if err != nil {
						continue // ctx is done
					}
					if err := c.Kill(leader); err != nil {
						t.Error(err)
					}
					killed++
					_ = wait.For(ctx, time.Duration(rand.Int64N(int64(2*historyTTL))))
					if err := c.Restart(leader); err != nil {
						t.Error(err)
					}
					_ = c.WaitReady(ctx) // ends with ctx
				}
			}
			b.history(t, c, o)
			t.Logf("%d leaders were killed", killed)
			if killed == 0 {
				t.Error("no leader was killed")
			}
			o.Unfenced, o.Holds, o.Late, o.Lasts = true, 2, 1, 15*time.Minute
			b.history(t, c, o)
		})
	}
}

// A history of participants that leave out the fence is noticed, whatever the seed.
func TestLockHistoriesNoticeAMissingFence(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			s := inmemory.NewStore()
			locktest.Run(t, locktest.Options{Seed: seed, TTL: ttl, Lasts: time.Hour, Holds: 2, Late: 1, Unfenced: true, Open: func(int) driver.Store { return s.Open() }})
		})
	}
}
