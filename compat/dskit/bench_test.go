package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/grafana/dskit/flagext"
	dskitkv "github.com/grafana/dskit/kv"
	dskitcodec "github.com/grafana/dskit/kv/codec"
	dskitgossip "github.com/grafana/dskit/kv/memberlist"
	"github.com/grafana/dskit/ring"

	"github.com/polykv/polykv/adapters/dskit"
	"github.com/polykv/polykv/compat/internal/fleet"
	"github.com/polykv/polykv/kv/memberlist"
)

// lifecyclers is how many instances the ring has, each with a node, a client
// and a reader of its own.
const lifecyclers = 40

// BenchmarkRingOnGossip tells how long it takes until all readers of a ring see
// that an instance has joined, has left, and was killed, on polykv's gossip and
// on dskit's own, both with their defaults. An instance counts as killed when it
// has been silent for heartbeatTimeout, which is most of that figure.
func BenchmarkRingOnGossip(b *testing.B) {
	for _, g := range []struct {
		name string
		node func(b *testing.B, name string, join []string) (client dskitkv.Client, address string)
	}{{"polykv", polykvNode}, {"dskit", dskitNode}} {
		b.Run(g.name, func(b *testing.B) {
			first, seed := g.node(b, "seed", nil)
			rings := []*ring.Ring{watch(b, first)}
			for i := range lifecyclers {
				client, _ := g.node(b, fmt.Sprint("node-", i), []string{seed})
				rings = append(rings, watch(b, client))
				start(b, lifecycler(b, client, fmt.Sprint("instance-", i)))
			}
			fleet.Eventually(b, "all see all", func() bool { return all(rings, func(r *ring.Ring) bool { return healthyCount(r) == lifecyclers }) })
			client, _ := g.node(b, "guest", []string{seed})
			var joined, left, killed time.Duration
			b.ResetTimer()
			for i := range b.N {
				name := fmt.Sprint("guest-", i)
				mortal := &mortal{Client: client}
				began := time.Now()
				stop := start(b, lifecycler(b, mortal, name))
				await(b, "all see who joined", rings, func(r *ring.Ring) bool { return healthyCount(r) == lifecyclers+1 })
				joined += time.Since(began)

				began = time.Now()
				mortal.dead.Store(true)
				await(b, "all see who was killed", rings, func(r *ring.Ring) bool { return healthyCount(r) == lifecyclers })
				killed += time.Since(began)

				mortal.dead.Store(false)
				await(b, "all see who is back", rings, func(r *ring.Ring) bool { return healthyCount(r) == lifecyclers+1 })
				began = time.Now()
				stop()
				await(b, "all see who left", rings, func(r *ring.Ring) bool { return !r.HasInstance(name) })
				left += time.Since(began)
			}
			b.StopTimer()
			for name, d := range map[string]time.Duration{"ms-joined": joined, "ms-left": left, "ms-killed": killed} {
				b.ReportMetric(float64(d.Milliseconds())/float64(b.N), name)
			}
		})
	}
}

// mortal is the client of an instance that can be killed.
type mortal struct {
	dskitkv.Client
	dead atomic.Bool
}

func (m *mortal) CAS(ctx context.Context, key string, f func(any) (any, bool, error)) error {
	if m.dead.Load() {
		return context.DeadlineExceeded
	}
	return m.Client.CAS(ctx, key, f)
}

func lifecycler(b *testing.B, c dskitkv.Client, instance string) *ring.Lifecycler {
	b.Helper()
	l, err := newLifecycler(c, instance)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

func watch(b *testing.B, c dskitkv.Client) *ring.Ring {
	b.Helper()
	r, err := newRing(c)
	if err != nil {
		b.Fatal(err)
	}
	start(b, r)
	return r
}

func healthyCount(r *ring.Ring) int {
	set, err := r.GetAllHealthy(ring.Reporting)
	if err != nil {
		return 0
	}
	return len(set.Instances)
}

func all(rings []*ring.Ring, see func(*ring.Ring) bool) bool {
	for _, r := range rings {
		if !see(r) {
			return false
		}
	}
	return true
}

// await is fleet.Eventually, but looks more often.
func await(b *testing.B, what string, rings []*ring.Ring, see func(*ring.Ring) bool) {
	b.Helper()
	for deadline := time.Now().Add(fleet.Patience); !all(rings, see); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("after %v: not %s", fleet.Patience, what)
		}
	}
}

func polykvNode(b *testing.B, name string, join []string) (dskitkv.Client, string) {
	b.Helper()
	cfg := memberlist.DefaultConfig()
	cfg.NodeName, cfg.BindAddress, cfg.BindPort, cfg.Join = name, "127.0.0.1", 0, join
	node, err := memberlist.Start(b.Context(), cfg, codec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = node.Close() }) // all close at once, the last ones with nobody left
	client, err := node.Client(codec, nil)
	if err != nil {
		b.Fatal(err)
	}
	view, err := dskit.NewClient(client)
	if err != nil {
		b.Fatal(err)
	}
	return view, node.Address()
}

func dskitNode(b *testing.B, name string, join []string) (dskitkv.Client, string) {
	b.Helper()
	var cfg dskitgossip.KVConfig
	flagext.DefaultValues(&cfg)
	cfg.NodeName = name
	cfg.TCPTransport.BindAddrs, cfg.TCPTransport.BindPort = []string{"127.0.0.1"}, 0
	cfg.JoinMembers = join
	cfg.LeaveTimeout, cfg.BroadcastTimeoutForLocalUpdatesOnShutdown = time.Second, time.Second
	cfg.Codecs = []dskitcodec.Codec{ring.GetCodec()}
	node := dskitgossip.NewKV(cfg, log.NewNopLogger(), noDNS{}, nil)
	start(b, node)
	client, err := dskitgossip.NewClient(node, ring.GetCodec())
	if err != nil {
		b.Fatal(err)
	}
	return client, fmt.Sprint("127.0.0.1:", node.GetListeningPort())
}

// noDNS resolves addresses that need no resolving.
type noDNS struct{}

func (noDNS) Resolve(context.Context, []string) error { return nil }

func (noDNS) Addresses() []string { return nil }
