package dskit

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-kit/log"
	"github.com/grafana/dskit/flagext"
	dskitkv "github.com/grafana/dskit/kv"
	dskitcodec "github.com/grafana/dskit/kv/codec"
	dskitgossip "github.com/grafana/dskit/kv/memberlist"
	"github.com/grafana/dskit/ring"
	"github.com/grafana/dskit/services"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/adapters/hostkv"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/multi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 2 * time.Minute

func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: not %s", patience, what)
		}
	}
}

// bigRing has maps within maps.
func bigRing() *ring.Desc {
	desc := ring.NewDesc()
	for i := range 20 {
		versions := ring.InstanceVersions{1: 2, 3: 4, 5: 6, 7: 8}
		desc.AddIngester(fmt.Sprint("instance-", i), "127.0.0.1:1", "zone", []uint32{uint32(i), uint32(i + 100)}, ring.ACTIVE, time.Unix(1, 0), false, time.Time{}, versions)
	}
	return desc
}

func TestCodecSharesBytesWithDskit(t *testing.T) {
	for name, c := range map[string]struct {
		codec dskitcodec.Codec
		value any
	}{
		"ring":   {ring.GetCodec(), bigRing()},
		"string": {dskitcodec.String{}, "text"},
	} {
		t.Run(name, func(t *testing.T) {
			ours := NewCodec(c.codec)
			first, err := ours.Encode(c.value)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				theirs, err := c.codec.Encode(c.value)
				if err != nil {
					t.Fatal(err)
				}
				read, err := ours.Decode(theirs)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := ours.Encode(read); err != nil || string(again) != string(first) {
					t.Fatalf("equal values give other bytes: %v", err)
				}
			}
			back, err := c.codec.Decode(first)
			if err != nil {
				t.Fatal(err)
			}
			if want, ok := c.value.(*ring.Desc); ok && !want.Equal(back) || !ok && back != c.value {
				t.Errorf("dskit reads %v", back)
			}
		})
	}
}

func TestCodecRefusesWhatIsNotItsOwn(t *testing.T) {
	for _, c := range []dskitcodec.Codec{ring.GetCodec(), ring.GetPartitionRingCodec(), dskitcodec.String{}} {
		if _, err := NewCodec(c).Encode(3.14); err == nil {
			t.Errorf("codec %s encoded a number", c.CodecID())
		}
		if _, err := NewCodec(c).Decode([]byte("\xff\xff\xff\xff\xff\xff")); err == nil && c.CodecID() != "string" {
			t.Errorf("codec %s decoded rubbish", c.CodecID())
		}
	}
}

// nodes starts two nodes of polykv's gossip.
func nodes(t *testing.T, c *Codec) (one, other *memberlist.Node) {
	t.Helper()
	start := func(name string, join ...string) *memberlist.Node {
		cfg := memberlist.DefaultConfig()
		cfg.NodeName, cfg.BindAddress, cfg.BindPort, cfg.Join = name, "127.0.0.1", 0, join
		n, err := memberlist.Start(t.Context(), cfg, c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Logf("closing %s: %v", name, err)
			}
		})
		return n
	}
	one = start("one")
	return one, start("other", one.Address())
}

func viewOf(t *testing.T, n *memberlist.Node, c *Codec) *hostkv.View {
	t.Helper()
	client, err := n.Client(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewClient(client)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPartitionRingMerges: what two nodes change at once is kept, and what one
// removes is gone.
func TestPartitionRingMerges(t *testing.T) {
	c := NewCodec(ring.GetPartitionRingCodec())
	a, b := nodes(t, c)
	one, other := viewOf(t, a, c), viewOf(t, b, c)
	edit := func(v *hostkv.View, f func(*ring.PartitionRingDesc)) {
		t.Helper()
		err := v.CAS(t.Context(), "partitions", func(in any) (any, bool, error) {
			desc := ring.GetOrCreatePartitionRingDesc(in)
			f(desc)
			return desc, true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	seen := func(v *hostkv.View) string {
		value, err := v.Get(t.Context(), "partitions")
		if err != nil {
			t.Fatal(err)
		}
		desc := ring.GetOrCreatePartitionRingDesc(value)
		return fmt.Sprint(slices.Sorted(maps.Keys(desc.Partitions)), slices.Sorted(maps.Keys(desc.Owners)))
	}
	now := time.Now()
	edit(one, func(d *ring.PartitionRingDesc) { d.AddPartition(1, ring.PartitionActive, now) })
	edit(other, func(d *ring.PartitionRingDesc) { d.AddPartition(2, ring.PartitionActive, now) })
	edit(other, func(d *ring.PartitionRingDesc) { d.AddOrUpdateOwner("owner", ring.OwnerActive, 2, now) })
	both := func(want string) func() bool { return func() bool { return seen(one) == want && seen(other) == want } }
	eventually(t, "everything on both", both("[1 2] [owner]"))
	edit(one, func(d *ring.PartitionRingDesc) { d.RemovePartition(2); d.RemoveOwner("owner") })
	eventually(t, "what was removed gone from both", both("[1] []"))
}

// dskitNode starts a node of dskit's own gossip.
func dskitNode(t *testing.T, join ...string) (dskitkv.Client, string) {
	t.Helper()
	var cfg dskitgossip.KVConfig
	flagext.DefaultValues(&cfg)
	cfg.NodeName = fmt.Sprint("dskit-", len(join), "-", time.Now().UnixNano())
	cfg.TCPTransport.BindAddrs = []string{"127.0.0.1"}
	cfg.TCPTransport.BindPort = 0
	cfg.JoinMembers = join
	cfg.Codecs = []dskitcodec.Codec{ring.GetCodec()}
	node := dskitgossip.NewKV(cfg, log.NewNopLogger(), noDNS{}, nil)
	if err := services.StartAndAwaitRunning(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := services.StopAndAwaitTerminated(ctx, node); err != nil {
			t.Error(err)
		}
	})
	client, err := dskitgossip.NewClient(node, ring.GetCodec())
	if err != nil {
		t.Fatal(err)
	}
	return client, fmt.Sprint("127.0.0.1:", node.GetListeningPort())
}

// noDNS resolves addresses that need no resolving.
type noDNS struct{}

func (noDNS) Resolve(context.Context, []string) error { return nil }

func (noDNS) Addresses() []string { return nil }

// register adds an instance as a lifecycler does.
func register(t *testing.T, c dskitkv.Client, instance string) {
	t.Helper()
	err := c.CAS(t.Context(), "ring", func(in any) (any, bool, error) {
		desc := ring.GetOrCreateRingDesc(in)
		desc.AddIngester(instance, "127.0.0.1:1", "", []uint32{1}, ring.ACTIVE, time.Now(), false, time.Time{}, nil)
		return desc, true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// instances returns those that are registered, sorted.
func instances(t *testing.T, c dskitkv.Client) string {
	t.Helper()
	value, err := c.Get(t.Context(), "ring")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(slices.Sorted(maps.Keys(ring.GetOrCreateRingDesc(value).Ingesters)), " ")
}

// TestAFleetLeavesDskitsGossip: two processes have both stores and switch, while
// a third one has dskit's only.
func TestAFleetLeavesDskitsGossip(t *testing.T) {
	c := NewCodec(ring.GetCodec())
	a, b := nodes(t, c)
	old, seed := dskitNode(t)
	alsoOld, _ := dskitNode(t, seed)
	onlyOld, _ := dskitNode(t, seed)

	both := func(old dskitkv.Client, n *memberlist.Node) (*multi.Client, *hostkv.View) {
		ours, err := n.Client(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := multi.New(multi.DefaultConfig(), []multi.Backend{
			{Name: "dskit", Client: Use(old, ring.GetCodec(), hostkv.Options{RescanInterval: time.Second}), Gossip: true, Equal: c.Equal},
			{Name: "polykv", Client: ours, Gossip: true, Equal: c.Equal},
		}, multi.WithCodec(c))
		if err != nil {
			t.Fatal(err)
		}
		v, err := NewClient(m)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := v.Close(); err != nil {
				t.Error(err)
			}
		})
		return m, v
	}
	first, one := both(old, a)
	second, other := both(alsoOld, b)

	register(t, one, "one")
	register(t, other, "other")
	register(t, onlyOld, "third")
	ours := viewOf(t, a, c)
	eventually(t, "everybody on dskit's gossip", func() bool { return instances(t, one) == "one other third" })
	// Two that mirror what they know so far take each other's instance for one that left, until its next heartbeat.
	eventually(t, "everybody on polykv's gossip", func() bool {
		register(t, one, "one")
		register(t, other, "other")
		register(t, onlyOld, "third")
		return instances(t, ours) == "one other third"
	})

	for _, m := range []*multi.Client{first, second} {
		if err := m.SetPrimary(t.Context(), "polykv"); err != nil {
			t.Fatal(err)
		}
	}
	register(t, other, "fourth")
	want := "fourth one other third"
	eventually(t, "a change after the switch seen by all, by the third process through dskit's gossip too", func() bool {
		return instances(t, one) == want && instances(t, other) == want && instances(t, onlyOld) == want
	})
	if err := one.Delete(t.Context(), "ring"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deletion on polykv's gossip", func() bool {
		value, err := ours.Get(t.Context(), "ring")
		return err == nil && value == nil
	})
}

// TestChangesWithinASecondOnDskitsGossip: polykv learns that dskit drops one.
func TestChangesWithinASecondOnDskitsGossip(t *testing.T) {
	old, _ := dskitNode(t)
	client := Use(old, ring.GetCodec(), hostkv.Options{Client: &kv.Options{RetryTimeout: time.Second}})
	v, err := NewClient(client)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	register(t, v, "a")
	runs := 0
	err = v.CAS(t.Context(), "ring", func(in any) (any, bool, error) {
		desc := ring.GetOrCreateRingDesc(in)
		i := desc.Ingesters["a"]
		i.State = ring.LEAVING
		if runs++; runs > 1 {
			i.Timestamp++
		}
		desc.Ingesters["a"] = i
		return desc, true, nil
	})
	if err != nil || runs != 2 {
		t.Errorf("after %d runs: %v", runs, err)
	}
}
