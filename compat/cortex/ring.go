package main

import (
	"flag"
	"time"

	"github.com/cortexproject/cortex/pkg/ha"
	"github.com/cortexproject/cortex/pkg/ring"
	cortexkv "github.com/cortexproject/cortex/pkg/ring/kv"
	"github.com/go-kit/log"
)

const ringKey = "ring"

// heartbeatTimeout is how long an instance counts as healthy without a word. A
// machine that others use too may hold up all of them for a while.
const heartbeatTimeout = 15 * time.Second

func ringConfig(client cortexkv.Client) ring.Config {
	var cfg ring.Config
	cfg.RegisterFlags(flag.NewFlagSet("", flag.PanicOnError))
	cfg.KVStore.Mock = client
	cfg.HeartbeatTimeout = heartbeatTimeout
	cfg.ReplicationFactor = 1
	return cfg
}

// newLifecycler makes an instance of the ring, with a heartbeat each second.
func newLifecycler(client cortexkv.Client, instance string) (*ring.Lifecycler, error) {
	var cfg ring.LifecyclerConfig
	cfg.RegisterFlags(flag.NewFlagSet("", flag.PanicOnError))
	cfg.RingConfig = ringConfig(client)
	cfg.ID, cfg.Addr, cfg.Port = instance, instance, 9095
	cfg.NumTokens = 32
	cfg.HeartbeatPeriod = time.Second
	cfg.MinReadyDuration, cfg.FinalSleep = 0, 0
	cfg.UnregisterOnShutdown = true
	return ring.NewLifecycler(cfg, ring.NewNoopFlushTransferer(), "ring", ringKey, true, false, log.NewNopLogger(), nil)
}

// newRing makes what the readers of a ring use.
func newRing(client cortexkv.Client) (*ring.Ring, error) {
	return ring.NewWithStoreClientAndStrategy(ringConfig(client), "ring", ringKey, client, ring.NewDefaultReplicationStrategy(), nil, log.NewNopLogger())
}

// failoverTimeout is how long a replica is elected without a sample.
const failoverTimeout = 3 * time.Second

// newTracker makes what distributors use to take the samples of one of several
// replicas.
func newTracker(client cortexkv.Client) (*ha.HATracker, error) {
	var cfg ha.HATrackerConfig
	cfg.RegisterFlags(flag.NewFlagSet("", flag.PanicOnError))
	cfg.EnableHATracker = true
	cfg.UpdateTimeout, cfg.UpdateTimeoutJitterMax = time.Second, 0
	cfg.FailoverTimeout = failoverTimeout
	cfg.KVStore.Mock = client
	return ha.NewHATracker(cfg, nil, ha.HATrackerStatusConfig{}, nil, "ha-tracker", log.NewNopLogger())
}
