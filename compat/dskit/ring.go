package main

import (
	"flag"
	"time"

	"github.com/go-kit/log"
	"github.com/grafana/dskit/flagext"
	dskitkv "github.com/grafana/dskit/kv"
	"github.com/grafana/dskit/ring"
)

const ringKey = "collectors/ring"

// heartbeatTimeout is how long an instance counts as healthy without a word. A
// machine that others use too may hold up all of them for a while.
const heartbeatTimeout = 15 * time.Second

func ringConfig(client dskitkv.Client) ring.Config {
	var cfg ring.Config
	flagext.DefaultValues(&cfg)
	cfg.KVStore.Mock = client
	cfg.HeartbeatTimeout = heartbeatTimeout
	cfg.ReplicationFactor = 1
	return cfg
}

// newLifecycler makes an instance of the ring, with a heartbeat each second.
func newLifecycler(client dskitkv.Client, instance string) (*ring.Lifecycler, error) {
	var cfg ring.LifecyclerConfig
	cfg.RegisterFlags(flag.NewFlagSet("", flag.PanicOnError), log.NewNopLogger())
	cfg.RingConfig = ringConfig(client)
	cfg.ID, cfg.Addr, cfg.Port = instance, "127.0.0.1", 9095
	cfg.NumTokens = 32
	cfg.HeartbeatPeriod = time.Second
	cfg.MinReadyDuration, cfg.FinalSleep = 0, 0
	cfg.UnregisterOnShutdown = true
	return ring.NewLifecycler(cfg, ring.NewNoopFlushTransferer(), "ring", ringKey, false, log.NewNopLogger(), nil)
}

// newRing makes what the readers of a ring use.
func newRing(client dskitkv.Client) (*ring.Ring, error) {
	return ring.NewWithStoreClientAndStrategy(ringConfig(client), "ring", ringKey, client, ring.NewDefaultReplicationStrategy(), nil, log.NewNopLogger())
}
