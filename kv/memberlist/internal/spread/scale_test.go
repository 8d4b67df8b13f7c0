package spread

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// startAll starts many nodes, several at a time, and returns how long it took
// until all knew each other.
func (c *cluster) startAll(count int) time.Duration {
	c.t.Helper()
	begin := time.Now()
	c.start("n000")
	var wg sync.WaitGroup
	names := make(chan string)
	for range 8 {
		wg.Go(func() {
			for name := range names {
				c.start(name)
			}
		})
	}
	for i := 1; i < count; i++ {
		names <- fmt.Sprintf("n%03d", i)
	}
	close(names)
	wg.Wait()
	c.awaitMembers()
	return time.Since(begin)
}

// traffic is what one change costs one node.
type traffic struct{ packets, bytes float64 }

// changes makes changes on random nodes, far enough apart not to coalesce, and
// returns what went over the fabric for them.
func (c *cluster) changes(count int) traffic {
	c.t.Helper()
	c.eventually("nothing is left of joining", func() bool {
		before := c.network.Fabric.Stats().DataPackets
		time.Sleep(c.config.TailDelay)
		return c.network.Fabric.Stats().DataPackets-before < uint64(len(c.nodes))
	})
	before := c.network.Fabric.Stats()
	for i := range count {
		n := c.nodes[(i*7)%len(c.nodes)]
		n.put(c.t, fmt.Sprintf("key/%d", i%10), fmt.Sprintf("value %d", i))
		time.Sleep(15 * time.Millisecond)
	}
	awaitEqual(c.t, patience, c.nodes...)
	time.Sleep(2 * c.config.TailDelay) // they are part of the cost
	after := c.network.Fabric.Stats()
	per := float64(count * len(c.nodes))
	return traffic{
		float64(after.DataPackets-before.DataPackets) / per,
		float64(after.DataBytes-before.DataBytes) / per,
	}
}

// TestScale compares what a change costs each node in a small cluster and in a
// large one. The large one has 200 nodes in the long form, 50 else.
func TestScale(t *testing.T) {
	large := 50
	if soak() {
		large = 200
	}
	var few traffic
	for _, count := range []int{25, large} {
		c := newCluster(t, network.NewFabric(1))
		took := c.startAll(count)
		// Where the processors are busy, frames and probes are answered late and
		// what seems lost is asked for: the same changes cost more then.
		for try := 1; ; try++ {
			cost := c.changes(40)
			t.Logf("%d nodes: all joined after %v; a change costs each node %.2f packets, %.0f bytes",
				count, took.Round(time.Millisecond), cost.packets, cost.bytes)
			if few.packets == 0 { // it is theirs
				few = cost
			}
			if cost.packets <= 1.2*few.packets {
				break
			}
			if try == 5 {
				t.Errorf("a change costs each of many nodes %.2f packets, each of few %.2f", cost.packets, few.packets)
				break
			}
		}
		for _, n := range c.nodes {
			n.close()
		}
	}
}

// TestDeliveries makes 20 changes on 30 nodes on loopback: 600 deliveries, none
// of which may be left to comparisons.
func TestDeliveries(t *testing.T) {
	c := newCluster(t, nil)
	nodes := c.grow(30)
	for i := range 20 {
		value := fmt.Sprint(i)
		nodes[i].put(t, "key", value)
		for _, n := range nodes {
			c.eventually(n.name+" has the change", func() bool { return n.get("key") == value })
		}
	}
}
