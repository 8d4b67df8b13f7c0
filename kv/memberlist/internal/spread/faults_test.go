package spread

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// TestLoss loses a fifth of all packets while every node writes and deletes.
func TestLoss(t *testing.T) {
	f := network.NewFabric(7)
	c := newCluster(t, f)
	nodes := c.grow(10)
	f.SetLoss(0.2)
	f.SetDelay(0, 5*time.Millisecond)
	dice := rand.New(rand.NewPCG(1, 2))
	for i := range 600 {
		n, key := nodes[dice.IntN(len(nodes))], fmt.Sprintf("key/%d", dice.IntN(50))
		if dice.IntN(5) == 0 {
			n.delete(t, key)
		} else {
			n.put(t, key, fmt.Sprint(i))
		}
		if i%10 == 0 {
			n.raise(t, "map", n.name, int64(i+1))
			time.Sleep(5 * time.Millisecond)
		}
	}
	awaitEqual(t, patience, nodes...)
	var asked, resent uint64
	for _, n := range nodes {
		asked += n.spread.count.asked.Load()
		resent += n.spread.count.resent.Load()
	}
	if asked == 0 || resent == 0 {
		t.Errorf("%d times were frames asked for, %d were sent again: no gap was repaired", asked, resent)
	}
	t.Logf("%d times were frames asked for, %d were sent again", asked, resent)
}

// TestLostTail loses the only frame: nothing later shows that there was one.
func TestLostTail(t *testing.T) {
	f := network.NewFabric(7)
	c := newCluster(t, f)
	c.network.ProbeInterval = time.Hour // what probes tell is tested elsewhere
	c.config.TailDelay = 300 * time.Millisecond
	nodes := c.grow(3)
	put := func(key, value string) {
		nodes[0].put(t, key, value)
		c.eventually("the other one has it", func() bool { return nodes[1].get(key) == value })
		nodes[1].put(t, key+"/after", value) // so that it is up to this one to tell of both
		c.eventually("that went out", func() bool { return nodes[0].get(key+"/after") == value })
	}
	tails := func() (sent [3]int) {
		for i, n := range nodes {
			sent[i] = len(n.sentKinds(kindNames[frameTail]))
		}
		return sent
	}
	for try := 1; ; try++ {
		before := tails()
		put("first", fmt.Sprint(try)) // so that the third node knows of both
		awaitEqual(t, patience, nodes...)
		c.eventually("the tail was sent", func() bool { return tails()[1] > before[1] })
		before = tails()
		resent := []uint64{nodes[0].spread.count.resent.Load(), nodes[1].spread.count.resent.Load()}
		f.Partition(addrs(nodes[2:]))
		put("second", fmt.Sprint(try))
		f.Heal()
		if tails() != before {
			if try == 10 {
				t.Fatal("in each of ten tries the tail was sent before the network was whole")
			}
			continue
		}
		awaitEqual(t, patience, nodes...)
		before[1]++
		if got := tails(); got != before {
			t.Errorf("the nodes have told of last frames %v times, want %v", got, before)
		}
		for i, n := range nodes[:2] {
			if n.spread.count.resent.Load() == resent[i] {
				t.Errorf("%s did not send its frame again", n.name)
			}
		}
		return
	}
}

// TestLostFirst loses the first frame that a node ever sends.
func TestLostFirst(t *testing.T) {
	f := network.NewFabric(7)
	c := newCluster(t, f)
	c.network.ProbeInterval = time.Hour
	c.config.TailDelay = time.Hour
	nodes := c.grow(3)
	f.Partition(addrs(nodes[2:]))
	nodes[0].put(t, "first", "1")
	c.eventually("the other one has it", func() bool { return nodes[1].get("first") == "1" })
	f.Heal()
	nodes[0].put(t, "second", "2")
	awaitEqual(t, patience/3, nodes...) // before memberlist exchanges digests by itself
}

func (n *node) sentKinds(kind string) (found []Message) {
	for _, m := range n.spread.Messages() {
		if m.Sent && m.Kind == kind {
			found = append(found, m)
		}
	}
	return found
}

// TestComparison loses everything that tells of a change but the answers to
// probes.
func TestComparison(t *testing.T) {
	f := network.NewFabric(7)
	c := newCluster(t, f)
	c.network.ProbeInterval = 200 * time.Millisecond
	c.config.TailDelay = time.Hour
	nodes := c.grow(3)
	// A change that is put straight into one store travels by no datagram.
	for i, u := range []state.Update{
		{Key: "a", Codec: "string", V: state.Version{Wall: 1, Instance: 1}, Value: []byte("1")},
		{Key: "b", Codec: "string", E: state.Version{Wall: uint64(time.Now().UnixMilli()), Instance: 1}},
	} {
		if a := nodes[i].store.Apply(u, nil); a.Outcome != state.Changed {
			t.Fatalf("%v: %v", a.Outcome, a.Err)
		}
	}
	awaitEqual(t, patience, nodes...)
	for _, n := range nodes {
		if n.get("a") != "1" {
			t.Errorf("%s has no a", n.name)
		}
	}
}

func addrs(nodes []*node) (a []netip.AddrPort) {
	for _, n := range nodes {
		a = append(a, n.net.Self().Addr)
	}
	return a
}

// awaitPeers waits until each of the nodes has so many peers.
func (c *cluster) awaitPeers(count int, nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes {
		c.eventually(fmt.Sprintf("%s has %d peers", n.name, count), func() bool { return len(n.spread.Peers()) == count })
	}
}

// quick makes failures show sooner.
func (c *cluster) quick() {
	c.network.ProbeInterval, c.network.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
	c.network.GossipInterval = 50 * time.Millisecond
	c.network.SuspicionMult = 2
	c.network.RejoinInterval, c.network.AloneInterval = time.Second, 500*time.Millisecond
}

// TestPartition splits a cluster, lets both sides write and delete, and heals
// it.
func TestPartition(t *testing.T) {
	f := network.NewFabric(3)
	c := newCluster(t, f)
	apart := time.Duration(0)
	if soak() {
		apart = time.Minute
	} else {
		c.quick()
	}
	nodes := c.grow(6)
	left, right := nodes[:3], nodes[3:]
	for i := range 20 {
		nodes[i%6].put(t, fmt.Sprintf("key/%d", i), "before")
	}
	nodes[0].raise(t, "map", "before", 1)
	awaitEqual(t, patience, nodes...)

	f.Partition(addrs(left))
	c.awaitPeers(2, nodes...)
	time.Sleep(apart)
	left[0].delete(t, "key/0")
	right[0].delete(t, "key/1")
	left[1].delete(t, "key/2")
	right[1].put(t, "key/2", "written over there, not knowing") // the deletion wins
	left[1].put(t, "key/3", "left")
	left[2].raise(t, "map", "left", 1)
	right[2].raise(t, "map", "right", 1)
	awaitEqual(t, patience, left...)
	awaitEqual(t, patience, right...)

	f.Heal()
	healed := time.Now()
	awaitEqual(t, 2*patience, nodes...)
	t.Logf("equal %v after the partition", time.Since(healed).Round(time.Millisecond))
	for _, n := range nodes {
		for _, key := range []string{"key/0", "key/1", "key/2"} {
			if n.store.Get(key) != nil {
				t.Errorf("%s has %s again: %q", n.name, key, n.get(key))
			}
		}
		if n.get("key/3") != "left" || n.get("key/4") != "before" || n.entries("map") != 3 {
			t.Errorf("%s: key/3 %q, key/4 %q, %d entries", n.name, n.get("key/3"), n.get("key/4"), n.entries("map"))
		}
	}
}

// TestLongIsolation keeps a side away for longer than deletions are
// remembered: nothing comes back that was deleted on either side.
func TestLongIsolation(t *testing.T) {
	for name, away := range map[string]int{"one node": 1, "two of five": 2} {
		t.Run(name, func(t *testing.T) {
			f := network.NewFabric(3)
			c := newCluster(t, f)
			c.quick()
			c.state.TombstoneTimeout, c.state.PartitionTolerance = 200*time.Millisecond, 2*time.Second
			// A timeout that is longer than the partition would let a comparison go on that began before it.
			c.config.StreamTimeout, c.config.ExchangeInterval = 500*time.Millisecond, 100*time.Millisecond
			nodes := c.grow(5)
			few, many := nodes[:away], nodes[away:]
			for _, key := range []string{"deleted", "kept", "also deleted"} {
				nodes[4].put(t, key, "before")
			}
			awaitEqual(t, patience, nodes...)

			f.Partition(addrs(few))
			c.awaitPeers(away-1, few...)
			c.awaitPeers(4-away, many...)
			parted := time.Now()
			many[0].delete(t, "deleted")
			few[0].delete(t, "also deleted")
			few[0].put(t, "new", "by the few")
			many[0].put(t, "newer", "by the many")
			awaitEqual(t, patience, many...)
			c.eventually("the tombstone is forgotten", func() bool { return len(many[0].store.Tombstones()) == 0 })
			if d := time.Until(parted.Add(3 * time.Second)); d > 0 {
				time.Sleep(d)
			}

			f.Heal()
			c.awaitPeers(4, nodes...)
			awaitEqual(t, patience, nodes...)
			for _, n := range nodes {
				for _, key := range []string{"deleted", "also deleted"} {
					if n.store.Get(key) != nil {
						t.Errorf("%s has what was %s: %q", n.name, key, n.get(key))
					}
				}
				for key, want := range map[string]string{"kept": "before", "new": "by the few", "newer": "by the many"} {
					if got := n.get(key); got != want {
						t.Errorf("%s has %s = %q, want %q", n.name, key, got, want)
					}
				}
			}
		})
	}
}

// TestSlowClock has the clock of one node of three an hour behind: it takes in what
// the others write, and they are well.
func TestSlowClock(t *testing.T) {
	c := newCluster(t, network.NewFabric(1))
	c.grow(2)
	c.state.Clock = func() time.Time { return time.Now().Add(-time.Hour) }
	c.config.Clock = c.state.Clock
	nodes := c.grow(1)
	nodes[0].put(t, "key", "1")
	awaitEqual(t, patience, nodes...)
	c.eventually("all are well", func() bool {
		return !slices.ContainsFunc(nodes, func(n *node) bool { return n.store.Health() != nil })
	})
}

// TestStoppedPeer stops a node in the middle of the cluster: the others hear
// from each other as before, large values included.
func TestStoppedPeer(t *testing.T) {
	f := network.NewFabric(3)
	c := newCluster(t, f)
	c.quick()
	c.network.SuspicionMult = 10_000 // it stays a member
	c.config.StreamTimeout = 30 * time.Second
	nodes := c.grow(6)
	stopped, others := nodes[5], nodes[:5]
	value := random(t, 300<<10)
	f.SetDelay(20*time.Millisecond, 20*time.Millisecond) // so that it takes a while
	stopped.put(t, "its own", random(t, 2<<20))
	for _, n := range others {
		c.eventually(n.name+" is pulling it", func() bool { return n.spread.Stats().Queues.Pulling == 1 })
	}
	resume := c.withoutComparisons()
	f.Partition([]netip.AddrPort{stopped.net.Self().Addr})
	f.SetDelay(0, 0)
	begin := time.Now()
	for i := range 5 {
		others[i%5].put(t, fmt.Sprintf("small/%d", i), "1")
		others[i%5].put(t, fmt.Sprintf("large/%d", i), value)
	}
	for _, n := range others {
		c.eventually(n.name+" has all that the others wrote", func() bool {
			for i := range 5 {
				if n.get(fmt.Sprintf("small/%d", i)) != "1" || n.get(fmt.Sprintf("large/%d", i)) != value {
					return false
				}
			}
			return true
		})
	}
	for _, n := range others { // rather than by comparison, later
		c.eventually(n.name+" has pulled the 4 values that the others announced", func() bool { return n.spread.count.pulls.Load() >= 4 })
	}
	// Were anything held up by the stopped node, it would be for as long as a
	// stream to it takes to fail.
	if took := time.Since(begin); took > c.config.StreamTimeout {
		t.Errorf("the others took %v", took)
	}
	f.Heal()
	resume()
	awaitEqual(t, 2*patience, nodes...)
}
