package spread

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// TestRelay has more members than are sent to directly.
func TestRelay(t *testing.T) {
	f := network.NewFabric(5)
	c := newCluster(t, f)
	c.config.DirectFanout, c.config.RelayFanout = 3, 4
	c.network.ProbeInterval = time.Hour // relays alone must do, and what they miss be asked for
	nodes := c.grow(24)
	const changes = 20
	for i := range changes {
		nodes[0].put(t, fmt.Sprintf("key/%d", i), "1")
		c.eventually("the change is sent", func() bool { return nodes[0].spread.sequence.Load() > uint64(i) })
	}
	awaitEqual(t, patience, nodes...)
	var relayed, duplicates uint64
	for _, n := range nodes {
		relayed += n.spread.count.relayed.Load()
		duplicates += n.spread.count.duplicates.Load()
	}
	frames := nodes[0].spread.count.frames.Load()
	const tails = 3 * 23
	if direct := nodes[0].spread.count.packetsOut.Load(); direct > 10*frames+tails {
		t.Errorf("%d packets were sent for %d frames: not to a few, but to all", direct, frames)
	}
	if relayed == 0 || duplicates == 0 {
		t.Errorf("%d frames were handed on, %d of them twice", relayed, duplicates)
	}
	if most := 23 * frames; relayed > most {
		t.Errorf("%d frames were handed on, each of %d by more than each of 23 nodes", relayed, frames)
	}
}

// TestRefusedChange has a node write with a clock that is ten years ahead, and
// then correct it.
func TestRefusedChange(t *testing.T) {
	f := network.NewFabric(5)
	c := newCluster(t, f)
	c.quick()
	nodes := c.grow(4)
	var ahead atomic.Int64
	ahead.Store(int64(10 * 365 * 24 * time.Hour))
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	c.state.Clock, c.config.Clock = clock, clock
	wrong := c.start("wrong")
	c.awaitMembers()
	wrong.put(t, "key", "from the future")
	c.eventually("its state is left out of the digests", func() bool { return wrong.store.Health() != nil && allEqual(c.nodes) })
	for _, n := range nodes {
		if n.store.Get("key") != nil {
			t.Errorf("%s has taken it: %q", n.name, n.get("key"))
		}
	}
	c.eventually("those that refused it have counted that", func() (counted bool) {
		for _, n := range nodes { // not all need have heard of it yet
			counted = counted || n.spread.count.outcomes[state.Ahead].Load() > 0
		}
		return counted
	})
	if err := wrong.spread.Flush(t.Context()); !errors.Is(err, errNobody) {
		t.Errorf("Flush of what everybody refuses: %v", err)
	}
	nodes[1].put(t, "other", "from now")
	c.eventually("it hears the others all the same", func() bool { return wrong.get("other") == "from now" })

	ahead.Store(0)
	for _, n := range nodes {
		c.eventually(n.name+" gets it with a new version", func() bool { return n.get("key") == "from the future" })
	}
	c.eventually("it is healthy again", func() bool { return wrong.store.Health() == nil })
	awaitEqual(t, patience, c.nodes...)
}

// TestOtherCodecs compares only what both nodes have codecs for.
func TestOtherCodecs(t *testing.T) {
	f := network.NewFabric(5)
	c := newCluster(t, f)
	c.quick()
	nodes := c.grow(2)
	c.state.Codecs = c.state.Codecs[1:] // without strings
	c.noStrings = true
	other := c.start("other")
	c.awaitMembers()
	nodes[0].put(t, "string", "1")
	nodes[1].put(t, "large string", random(t, 100_000))
	nodes[1].raise(t, "map", "1", 1)
	awaitEqual(t, patience, nodes...)
	c.eventually("the other has the map", func() bool { return other.entries("map") == 1 })
	mismatches := func() (n uint64) {
		for _, n2 := range c.nodes {
			n += n2.spread.count.mismatches.Load()
		}
		return n
	}
	probes := func() uint64 { return f.Stats().MembershipPackets }
	c.eventually("all is quiet", func() bool { return other.spread.comparer.size() == 0 })
	before, begin := mismatches(), probes()
	c.eventually("probes have told the digests", func() bool { return probes() > begin+20 })
	if after := mismatches(); after != before {
		t.Errorf("%d answers to probes differed because of codecs that one of them lacks", after-before)
	}
	if other.store.Get("string") != nil || other.store.Get("large string") != nil {
		t.Error("the other has strings")
	}
}
