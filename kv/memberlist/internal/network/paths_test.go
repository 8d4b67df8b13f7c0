package network

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// withoutDatagrams is quick to find out that datagrams are answered again.
func withoutDatagrams(cfg Config) Config {
	cfg.StreamTimeout = 600 * time.Millisecond
	return cfg
}

func (n node) heard(frame string) bool {
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	return slices.Contains(n.rec.frames, frame)
}

// await sends frames until all others have one: while the paths are being
// looked at, some get lost.
func awaitFrames(t *testing.T, what string, nodes []node) {
	t.Helper()
	sent := 0
	eventually(t, what, func() bool {
		sent++
		for i, n := range nodes {
			if err := n.Send(fmt.Appendf(nil, "%s %d %d", what, i, sent), n.Peers()...); err != nil {
				t.Fatal(err)
			}
		}
		for i, n := range nodes {
			for from := range nodes {
				if from != i && !slices.ContainsFunc(upTo(sent), func(k int) bool { return n.heard(fmt.Sprintf("%s %d %d", what, from, k)) }) {
					return false
				}
			}
		}
		return true
	})
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i + 1
	}
	return all
}

// awaitByStream waits until each node reaches so many others by streams.
func awaitByStream(t *testing.T, count int, nodes []node) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d peers are reached by streams", count), func() bool {
		return !slices.ContainsFunc(nodes, func(n node) bool { return n.Stats().ByStreamPeers != count })
	})
}

// checkByStream wants nodes to work without datagrams: frames arrive, and probes
// are answered.
func checkByStream(t *testing.T, nodes []node) {
	t.Helper()
	awaitByStream(t, len(nodes)-1, nodes)
	before := make([]uint64, len(nodes))
	for i, n := range nodes {
		before[i] = n.Stats().ByStreamReceived
		n.rec.mu.Lock()
		clear(n.rec.acks)
		n.rec.mu.Unlock()
	}
	awaitFrames(t, "by streams", nodes)
	eventually(t, "probes are answered", func() bool {
		return !slices.ContainsFunc(nodes, func(n node) bool {
			n.rec.mu.Lock()
			defer n.rec.mu.Unlock()
			return len(n.rec.acks) < len(nodes)-1
		})
	})
	for i, n := range nodes {
		if n.Stats().ByStreamReceived == before[i] {
			t.Errorf("%s received nothing by streams", n.self.Name)
		}
		for _, m := range n.Members() {
			if m.State != Alive || m.ByStream != (m.ID != n.self.ID) {
				t.Errorf("%s takes %s for %s, by stream %v", n.self.Name, m.Name, m.State, m.ByStream)
			}
		}
	}
}

func TestPacketsGoByStreamsWithoutDatagrams(t *testing.T) {
	for _, when := range []string{"from the start", "later"} {
		t.Run(when, func(t *testing.T) {
			f := NewFabric(1)
			if when == "from the start" {
				f.SetLoss(1)
			}
			nodes := cluster(t, func(name string) Config {
				cfg := withoutDatagrams(testConfig(name))
				cfg.Fabric = f
				return cfg
			}, 3)
			f.SetLoss(1)
			checkByStream(t, nodes)

			cfg := withoutDatagrams(testConfig("late"))
			cfg.Fabric, cfg.Join = f, []string{nodes[0].Self().Addr.String()}
			late := start(t, cfg, nil)
			nodes = append(nodes, late)
			awaitPeers(t, 3, nodes...)
			checkByStream(t, nodes)

			_ = late.Leave(t.Context())
			_ = late.Close()
			nodes = nodes[:3]
			awaitPeers(t, 2, nodes...)
			awaitByStream(t, 2, nodes) // its streams are gone
			f.SetLoss(0)
			awaitByStream(t, 0, nodes)
			awaitFrames(t, "by datagrams", nodes)
		})
	}
}

// A peer that can't be reached at all is not sent to by streams.
func TestNoStreamsToWhoIsAway(t *testing.T) {
	f := NewFabric(1)
	nodes := cluster(t, func(name string) Config {
		cfg := withoutDatagrams(testConfig(name))
		cfg.Fabric = f
		return cfg
	}, 3)
	away := nodes[2].Self().Addr
	f.Partition([]netip.AddrPort{away})
	nodes[0].paths.look(away)
	if s := nodes[0].paths.stream(away); s != nil {
		t.Error("packets go to it by a stream")
	}
}

// A stream that nobody reads holds up nobody.
func TestAPacketStreamIsBounded(t *testing.T) {
	s := &packetStream{wake: make(chan struct{}, 1)}
	for range maxStreamPackets {
		if !s.add(kindData, nil) {
			t.Fatal("there is no room")
		}
	}
	if s.add(kindData, nil) {
		t.Errorf("more than %d packets wait", maxStreamPackets)
	}
	s = &packetStream{wake: make(chan struct{}, 1)}
	for range maxStreamBytes / 1024 {
		if !s.add(kindData, make([]byte, 1024)) {
			t.Fatal("there is no room")
		}
	}
	if s.add(kindData, nil) {
		t.Errorf("more than %d bytes wait", maxStreamBytes)
	}
}
