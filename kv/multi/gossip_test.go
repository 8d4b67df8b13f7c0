package multi_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/multi"
)

var counts = memberlist.MapCodec[string, int]{ID: "counts"}

// gossipNode starts a node on the loopback interface.
func gossipNode(t conformance.T, name string, join ...string) *memberlist.Node {
	cfg := memberlist.DefaultConfig()
	cfg.NodeName, cfg.ClusterLabel = name, t.Name()
	cfg.BindAddress, cfg.BindPort = "127.0.0.1", 0
	cfg.ProbeInterval, cfg.ProbeTimeout, cfg.GossipInterval = 200*time.Millisecond, 100*time.Millisecond, 50*time.Millisecond
	cfg.RejoinInterval, cfg.AloneInterval = time.Second, 200*time.Millisecond
	cfg.Join = join
	type doc struct { // of the suite
		Text string
		Tags []string
	}
	docs := codec.JSON[*doc]{ID: "conformance/doc"}
	compressed, err := codec.Compress(docs, codec.Zstd, nil)
	if err != nil {
		t.Fatalf("the codec: %v", err)
	}
	n, err := memberlist.StartWith(t.Context(), cfg, memberlist.Options{Logger: quiet}, codec.String{}, codec.Bytes{}, docs, compressed, counts)
	if err != nil {
		t.Fatalf("starting node %s: %v", name, err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func gossipClient(t conformance.T, n *memberlist.Node, cdc codec.Codec) kv.Client {
	c, err := n.Client(cdc, &kv.Options{Logger: quiet})
	if err != nil {
		t.Fatalf("a client of node %s: %v", n.Name(), err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// What is written on a node of the cluster where no client of both stores is
// arrives in the other store, deletions and merged values included, and back
// after a switch.
func TestGossipIsMirroredByWatch(t *testing.T) {
	here := gossipNode(t, "here")
	there := gossipNode(t, "there", here.Address())
	store := inmemory.NewStore()
	plain := kv.New(store.Open(), counts, &kv.Options{Logger: quiet})
	t.Cleanup(func() { plain.Close() })
	c, err := multi.New(multi.DefaultConfig(), []multi.Backend{
		{Name: "gossip", Client: gossipClient(t, here, counts), Gossip: true, Equal: memberlist.Equal(counts)},
		{Name: "memory", Client: kv.New(store.Open(), counts, &kv.Options{Logger: quiet})},
	}, multi.WithLogger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	elsewhere := gossipClient(t, there, counts)
	set := func(c kv.Client, entry string, n int) {
		t.Helper()
		if err := c.CAS(t.Context(), "k", func(in any) (any, bool, error) {
			m, ok := in.(*memberlist.Map[string, int])
			if !ok {
				m = memberlist.NewMap[string, int]()
			}
			m.Set(entry, n)
			return m, false, nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(c kv.Client, want map[string]int) func() bool {
		return func() bool {
			m, ok := get(t, c, "k").(*memberlist.Map[string, int])
			if !ok {
				return len(want) == 0
			}
			for entry, n := range want {
				if got, ok := m.Get(entry); !ok || got != n {
					return false
				}
			}
			return m.Len() == len(want)
		}
	}
	set(elsewhere, "a", 1)
	eventually(t, "what another node wrote is mirrored", holds(plain, map[string]int{"a": 1}))
	set(c, "b", 2)
	set(elsewhere, "a", 3)
	eventually(t, "what two nodes wrote is mirrored", holds(plain, map[string]int{"a": 3, "b": 2}))
	if _, differences, err := c.Verify(t.Context()); err != nil || len(differences) > 0 {
		t.Errorf("the stores differ: %v, %v", differences, err)
	}
	if err := elsewhere.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deletion is mirrored", func() bool { return get(t, plain, "k") == nil })

	set(c, "c", 4)
	eventually(t, "the key is there again", holds(plain, map[string]int{"c": 4}))
	if err := c.SetPrimary(t.Context(), "memory"); err != nil {
		t.Fatal(err)
	}
	set(plain, "d", 5)
	eventually(t, "what was written in the new primary is on every node", holds(elsewhere, map[string]int{"c": 4, "d": 5}))
}

// The suite on every pair of memory and gossip, with mirroring and without: one
// case for each rule, all of them under POLYKV_SOAK.
func TestConformanceWithGossip(t *testing.T) {
	for _, names := range [][2]string{{"memory", "gossip"}, {"gossip", "memory"}, {"gossip", "gossip"}} {
		for _, mirror := range []bool{true, false} {
			h := conformance.Harness{Brief: os.Getenv("POLYKV_SOAK") == ""}
			if names[0] == "gossip" {
				h.Features = conformance.Features{PerNode: true, Lacks: []conformance.Extra{conformance.Guarded}}
			}
			h.New = func(t conformance.T) conformance.Store {
				var opens [2]func(codec.Codec, kv.Options) (kv.Client, error)
				for i, name := range names {
					if name == "gossip" {
						node := gossipNode(t, fmt.Sprint("node", i))
						opens[i] = func(cdc codec.Codec, o kv.Options) (kv.Client, error) { return node.Client(cdc, &o) }
						continue
					}
					store := inmemory.NewStore()
					opens[i] = func(cdc codec.Codec, o kv.Options) (kv.Client, error) { return kv.New(store.Open(), cdc, &o), nil }
				}
				return conformance.Store{Open: func(cdc codec.Codec, o kv.Options) (kv.Client, error) {
					cfg := multi.DefaultConfig()
					cfg.Mirror = mirror
					first, err := opens[0](cdc, o)
					if err != nil {
						return nil, err
					}
					o.Observer = nil // mirrors are not what users ask for
					second, err := opens[1](cdc, o)
					if err != nil {
						return nil, err
					}
					return multi.New(cfg, []multi.Backend{
						{Name: "first", Client: first, Gossip: names[0] == "gossip", Equal: memberlist.Equal(cdc)},
						{Name: "second", Client: second, Gossip: names[1] == "gossip"},
					}, multi.WithLogger(o.Logger))
				}}
			}
			t.Run(fmt.Sprintf("%s to %s, mirroring %t", names[0], names[1], mirror), func(t *testing.T) { conformance.Run(t, h) })
		}
	}
}
