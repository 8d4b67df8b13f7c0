package network

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestManyNodesOfOneProcessJoin takes 60 nodes, and 200 where POLYKV_SOAK is
// set.
func TestManyNodesOfOneProcessJoin(t *testing.T) {
	count := 60
	if os.Getenv("POLYKV_SOAK") != "" {
		count = 200
	}
	f := NewFabric(1)
	begin := time.Now()
	var nodes []node
	for i := range count {
		cfg := DefaultConfig()
		cfg.Name, cfg.Fabric, cfg.Logger = fmt.Sprintf("node-%d", i), f, discard()
		// Where the process gets too little time to answer within ProbeTimeout,
		// its nodes suspect each other, and rightly so, and tell all of it, which
		// takes more time. Here they are to join.
		cfg.ProbeInterval = time.Hour
		cfg.PushPullInterval = 5 * time.Second // what gossip missed
		if i > 0 {
			cfg.Join = []string{nodes[0].Self().Addr.String()}
		}
		nodes = append(nodes, start(t, cfg, nil))
	}
	for _, n := range nodes { // a loaded machine takes its time
		for deadline := begin.Add(3 * time.Minute); len(n.Peers()) < count-1; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s has %d peers; it has sent and received %+v, all have %+v", n.self.Name, len(n.Peers()), n.Stats(), f.Stats())
			}
		}
	}
	t.Logf("%d nodes know each other after %v: %d packets", count, time.Since(begin).Round(time.Millisecond), f.Stats().MembershipPackets)
	want := 0
	for _, n := range nodes {
		peers := n.Peers()
		want += len(peers)
		if err := n.Send(make([]byte, 100), peers...); err != nil {
			t.Fatal(err)
		}
	}
	if sent := f.Stats().DataPackets; sent != uint64(want) {
		t.Errorf("%d frames to others cost %d packets", want, sent)
	}
}
