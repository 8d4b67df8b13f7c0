package spread

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// TestCloseHandsOn writes and closes at once while most packets get lost: what
// was written is not.
func TestCloseHandsOn(t *testing.T) {
	both(t, func(t *testing.T, c *cluster) {
		if c.network.Fabric != nil {
			c.network.Fabric.SetLoss(0.2)
		}
		nodes := c.grow(4)
		last := nodes[3]
		large := random(t, 1<<20)
		for i := range 50 {
			last.put(t, fmt.Sprintf("key/%d", i), "1")
		}
		last.put(t, "large", large)
		if f := c.network.Fabric; f != nil {
			f.SetLoss(1) // not a packet more gets through
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := last.spread.Close(ctx); err != nil {
			t.Fatal(err)
		}
		last.close()
		if f := c.network.Fabric; f != nil {
			f.SetLoss(0)
		}
		awaitEqual(t, patience, nodes[:3]...)
		for _, n := range nodes[:3] {
			if n.get("large") != large || n.get("key/49") != "1" {
				t.Errorf("%s lacks what was written last", n.name)
			}
		}
	})
}

// TestCloseHandsOnWhatWasHandedOn closes a node that has written nothing, but has
// been given what another one wrote that has closed. Nobody else has it.
func TestCloseHandsOnWhatWasHandedOn(t *testing.T) {
	f := network.NewFabric(1)
	c := newCluster(t, f)
	c.silent()
	nodes := c.grow(3)
	defer c.withoutComparisons()()
	f.SetLoss(1) // what is written is handed on at the end only
	nodes[0].put(t, "key", "1")
	if err := nodes[0].spread.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.SetLoss(0)
	if err := nodes[0].net.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	holder, last := nodes[1], nodes[2]
	if last.get("key") != "" {
		holder, last = last, holder
	}
	c.eventually("they know that the first has left", func() bool { return len(holder.net.Peers()) == 1 && len(last.net.Peers()) == 1 })
	if err := holder.spread.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := last.get("key"); got != "1" {
		t.Errorf("the last node has %q", got)
	}
}

// TestCloseIsBounded closes a node whose only peer has stopped.
func TestCloseIsBounded(t *testing.T) {
	f := network.NewFabric(1)
	c := newCluster(t, f)
	c.network.SuspicionMult = 10_000
	nodes := c.grow(2)
	f.Partition([]netip.AddrPort{nodes[1].net.Self().Addr})
	nodes[0].put(t, "key", random(t, 100_000))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := nodes[0].spread.Close(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close that could not hand on its changes: %v", err)
	}
	if took := time.Since(begin); took > nodes[0].spread.cfg.StreamTimeout {
		t.Errorf("it took %v", took)
	}
	if err := nodes[0].spread.Close(ctx); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	f.Heal()
}

// TestCloseAlone closes a node that has no peers.
func TestCloseAlone(t *testing.T) {
	c := newCluster(t, network.NewFabric(1))
	n := c.start("alone")
	n.put(t, "key", "1")
	if err := n.spread.Close(t.Context()); err != nil {
		t.Error(err)
	}
	n.put(t, "key", "2") // a client that is late
}

// TestStats reads the figures of nodes that did something.
func TestStats(t *testing.T) {
	c := newCluster(t, network.NewFabric(1))
	nodes := c.grow(2)
	defer c.withoutComparisons()()
	nodes[0].put(t, "key", "1")
	nodes[0].put(t, "large", random(t, 100_000))
	awaitEqual(t, patience, nodes...)
	if sent := nodes[0].spread.Stats(); sent.Counters["frames_sent"] == 0 {
		t.Errorf("sender %+v", sent)
	}
	// What was received is counted after it was taken, a pull when its stream
	// has said its last word.
	if waitFor(patience, func() bool {
		got := nodes[1].spread.Stats()
		return got.Outcomes["changed"] == 2 && got.Lag.Changes == 2 && got.Counters["pulls"] == 1
	}) != nil {
		t.Errorf("receiver %+v", nodes[1].spread.Stats())
	}
	want := map[string]bool{"push key true": true, "push large true": true}
	for _, m := range nodes[0].spread.Messages() {
		delete(want, fmt.Sprint(m.Kind, " ", m.Key, " ", m.Sent))
	}
	if len(want) > 0 {
		t.Errorf("not among the recent messages: %v", want)
	}
	for range 2 * recentMessages {
		nodes[0].spread.logFrame(frameTail, 7, true, nil)
	}
	if m := nodes[0].spread.Messages(); len(m) != recentMessages || m[0].Sequence != 7 {
		t.Errorf("%d messages are kept, want %d", len(m), recentMessages)
	}
}

// TestFlushKnowsMembersThatItWasNotToldOf writes on a node that has joined a
// moment ago: the network knows the members, this package does not yet.
func TestFlushKnowsMembersThatItWasNotToldOf(t *testing.T) {
	c := newCluster(t, network.NewFabric(1))
	c.silent()
	nodes := c.grow(2)
	nodes[0].spread.members.now.Store(&memberSet{})
	nodes[0].put(t, "key", "value")
	if err := nodes[0].spread.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := nodes[1].get("key"); got != "value" {
		t.Errorf("the other member has %q", got)
	}
}
