package spread

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// soak reports whether the long form of a test shall run.
func soak() bool { return os.Getenv("POLYKV_SOAK") != "" }

// random returns a string of n random bytes.
func random(t testing.TB, n int) string {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestLargeValue has a value of 8 MiB pulled by all, changed, and changed back
// to a small one.
func TestLargeValue(t *testing.T) {
	both(t, func(t *testing.T, c *cluster) {
		count := 10
		if c.network.Fabric != nil && !soak() {
			count = 4
		}
		nodes := c.grow(count)
		defer c.withoutComparisons()()
		for _, size := range []int{8 << 20, 300 << 10, 2000, 10} {
			value := random(t, size)
			nodes[size%4].put(t, "large", value)
			awaitEqual(t, patience, nodes...)
			for _, n := range nodes {
				if got := n.get("large"); got != value {
					t.Fatalf("%s has a value of %d bytes and sum %x, want %d", n.name, len(got), sha256.Sum256([]byte(got)), size)
				}
			}
		}
		c.eventually("3 values were pulled by each of the others", func() bool {
			pulled := uint64(0)
			for _, n := range nodes {
				pulled += n.spread.count.pulls.Load()
			}
			return pulled >= uint64(3*(count-1))
		})
	})
}

// TestLargeValueIsSharedOut lets a node serve one peer at a time: the others
// get the value from those who have it.
func TestLargeValueIsSharedOut(t *testing.T) {
	f := network.NewFabric(1)
	c := newCluster(t, f)
	c.config.MaxServed = 1
	nodes := c.grow(8)
	f.SetDelay(0, time.Millisecond)
	nodes[0].put(t, "large", random(t, 2<<20))
	awaitEqual(t, patience, nodes...)
	var busy, elsewhere uint64
	for _, n := range nodes[1:] {
		busy += n.spread.count.pullBusy.Load()
		elsewhere += n.spread.count.recordsOut.Load()
	}
	if busy == 0 || elsewhere == 0 {
		t.Errorf("%d were told to come again, %d got it from others than the writer", busy, elsewhere)
	}
}

// TestLargeMergeable has two nodes make large changes to one value at once.
func TestLargeMergeable(t *testing.T) {
	c := newCluster(t, network.NewFabric(1))
	nodes := c.grow(4)
	for i, n := range nodes[:2] {
		n.update(t, "map", n.maps, func(any) any {
			m := &maxMap{M: map[string]int64{}}
			for j := range 3_000 {
				m.M[fmt.Sprintf("entry %d of %d", j, i)] = 1
			}
			return m
		})
	}
	awaitEqual(t, patience, nodes...)
	for _, n := range nodes {
		if got := n.entries("map"); got != 6_000 {
			t.Errorf("%s has %d entries, want 6000", n.name, got)
		}
	}
}

// TestLateJoiner lets a node join that finds many keys and a large value.
func TestLateJoiner(t *testing.T) {
	keys := 2_000
	if soak() {
		keys = 50_000
	}
	both(t, func(t *testing.T, c *cluster) {
		nodes := c.grow(3)
		value := random(t, 1024)
		begin := time.Now()
		for i := range keys {
			nodes[i%3].put(t, fmt.Sprintf("key/%d", i), value)
		}
		nodes[0].put(t, "large", random(t, 8<<20))
		t.Logf("wrote %d keys of 1 KiB in %v", keys, time.Since(begin).Round(time.Millisecond))
		awaitEqual(t, 3*patience, nodes...)

		begin = time.Now()
		late := c.start("late")
		select {
		case <-late.spread.Ready():
		case <-time.After(3 * patience):
			t.Fatalf("the late node is not ready; it has %d keys: %+v", late.store.Snapshot().Len(), late.spread.Stats())
		}
		t.Logf("the late node was ready after %v", time.Since(begin).Round(time.Millisecond))
		if got := late.store.Snapshot().Len(); got != keys+1 {
			t.Errorf("it is ready with %d keys, want %d", got, keys+1)
		}
		if !allEqual([]*node{nodes[0], late}) {
			t.Error("it is ready and differs from the others")
		}
	})
}

// TestManyKeys writes faster than datagrams are sent: what doesn't fit the
// queue arrives all the same.
func TestManyKeys(t *testing.T) {
	keys, count := 8_000, 3
	if soak() {
		keys, count = 50_000, 10
	}
	both(t, func(t *testing.T, c *cluster) {
		nodes := c.grow(count)
		before := heap()
		value := random(t, 1024)
		// The sender needs the history of frames for its first one.
		nodes[0].spread.history.mu.Lock()
		for i := range keys {
			nodes[0].put(t, fmt.Sprintf("key/%d", i), value)
		}
		nodes[0].spread.history.mu.Unlock()
		awaitEqual(t, 3*patience, nodes...)
		if got := nodes[1].store.Snapshot().Len(); got != keys {
			t.Errorf("%d keys, want %d", got, keys)
		}
		if nodes[0].spread.count.behind.Load() == 0 {
			t.Error("the queue never overflowed: this test shows nothing")
		}
		t.Logf("%d keys of 1 KiB take %d MiB on each of %d nodes", keys, (heap()-before)>>20/uint64(count), count)
	})
}

// heap returns the live bytes.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the first one found to be finalized
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestPullFromAStoppedMember sends a node for a value to one that stopped in the
// meantime, of which it keeps streams: it asks another soon, not when a stream
// has timed out.
func TestPullFromAStoppedMember(t *testing.T) {
	f := network.NewFabric(1)
	c := newCluster(t, f)
	c.silent()
	c.config.StreamTimeout = 2 * patience
	nodes := c.grow(3)
	writer, stopped, reader := nodes[0], nodes[1], nodes[2]
	peers := map[string]network.Peer{}
	for _, p := range reader.spread.Peers() {
		peers[p.Name] = p
	}
	if err := reader.spread.pool.with(t.Context(), peers[stopped.name], ask); err != nil {
		t.Fatal(err)
	}
	f.Partition([]netip.AddrPort{stopped.net.Self().Addr})

	pulls := reader.spread.pulls
	pulls.mu.Lock()
	pulls.perPeer[peers[writer.name].ID] = pullsPerPeer // so that the other is asked first
	pulls.mu.Unlock()
	value := random(t, 100<<10)
	writer.put(t, "large", value)
	c.eventually("the value is announced", func() bool { waiting, _ := pulls.size(); return waiting == 1 })
	have := writer.store.Have("string", "large")
	pulls.announce(&item{
		Update: state.Update{Key: "large", Codec: "string", E: have.E, V: have.V}, announced: true, size: uint64(len(value)),
	}, peers[stopped.name])
	c.eventually("the stopped one is asked", func() bool { _, running := pulls.size(); return running == 1 })
	pulls.mu.Lock()
	delete(pulls.perPeer, peers[writer.name].ID)
	pulls.mu.Unlock()
	c.eventually("the value is there", func() bool { return reader.get("large") == value })
}

// TestPullFromWhoHasItNotYet has a node pull a value from a member that it will
// come to in a moment only, as happens when a busy one sends it to those that it
// has just served.
func TestPullFromWhoHasItNotYet(t *testing.T) {
	older := state.Update{Key: "large", Codec: "string", V: state.Version{Wall: 1, Instance: 1}, Value: []byte("older")}
	for name, test := range map[string]struct{ server, reader []state.Update }{
		"nothing":       {},
		"an older one":  {server: []state.Update{older}},
		"the same here": {server: []state.Update{older}, reader: []state.Update{older}},
	} {
		t.Run(name, func(t *testing.T) { testPullFromWhoHasItNotYet(t, test.server, test.reader) })
	}
}

func testPullFromWhoHasItNotYet(t *testing.T, before, beforeHere []state.Update) {
	c := newCluster(t, network.NewFabric(1))
	c.silent()
	nodes := c.grow(2)
	defer c.withoutComparisons()()
	server, reader := nodes[0], nodes[1]
	for _, u := range before {
		server.apply(t, u)
	}
	for _, u := range beforeHere {
		reader.apply(t, u)
	}
	value := random(t, 100<<10)
	u := state.Update{Key: "large", Codec: "string", V: state.Version{Wall: 2, Instance: 1}, Value: []byte(value)}
	announced := item{Update: u, announced: true, size: uint64(len(value))}
	announced.Value = nil
	reader.spread.pulls.announce(&announced, reader.spread.Peers()[0])
	c.eventually("it is told that there is no such value", func() bool { return reader.spread.count.pullAbsent.Load() > 0 })
	server.apply(t, u)
	c.eventually("the value is there", func() bool { return reader.get("large") == value })
	c.eventually("the pull has ended", func() bool {
		waiting, running := reader.spread.pulls.size()
		return waiting+running == 0
	})
	if got := reader.spread.count.pulls.Load(); got != 1 {
		t.Errorf("%d pulls are counted, want 1", got)
	}
}

// TestStoppedMembersHoldUpNobody has a node wait for as many members that have
// stopped as can keep all its pulls waiting: a value of another one comes at
// once, not when their streams have timed out.
func TestStoppedMembersHoldUpNobody(t *testing.T) {
	f := network.NewFabric(1)
	c := newCluster(t, f)
	c.silent()
	c.config.StreamTimeout = 2 * patience
	nodes := c.grow(2 + maxPulls/pullsPerPeer)
	writer, reader, stopped := nodes[0], nodes[1], nodes[2:]
	peers := map[string]network.Peer{}
	for _, p := range reader.spread.Peers() {
		peers[p.Name] = p
	}
	var alone [][]netip.AddrPort
	for _, n := range stopped {
		alone = append(alone, []netip.AddrPort{n.net.Self().Addr})
	}
	f.Partition(alone...)
	pulls := reader.spread.pulls
	for _, n := range stopped {
		for i := range pullsPerPeer {
			pulls.announce(&item{
				Update:    state.Update{Key: fmt.Sprintf("%s/%d", n.name, i), Codec: "string", V: state.Version{Wall: 1, Instance: 1}},
				announced: true, size: 100 << 10,
			}, peers[n.name])
		}
	}
	c.eventually("all are asked", func() bool { _, running := pulls.size(); return running == maxPulls })
	value := random(t, 100<<10)
	writer.put(t, "large", value)
	c.eventually("the value is there", func() bool { return reader.get("large") == value })
	if _, running := pulls.size(); running < maxPulls {
		t.Errorf("%d pulls from stopped members are left, want %d: this test shows nothing", running, maxPulls)
	}
}
