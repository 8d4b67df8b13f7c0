package network

import (
	"testing"

	"golang.org/x/net/bpf"
)

// TestFirewallWithoutUDP has the kernel drop every datagram, as a firewall does.
func TestFirewallWithoutUDP(t *testing.T) {
	var nodes []node
	for _, name := range []string{"a", "b", "c"} {
		cfg := withoutDatagrams(testConfig(name))
		if len(nodes) > 0 {
			cfg.Join = []string{nodes[0].Self().Addr.String()}
		}
		nodes = append(nodes, start(t, cfg, nil))
		dropDatagrams(t, nodes[len(nodes)-1])
	}
	awaitPeers(t, 2, nodes...)
	checkByStream(t, nodes)
}

func dropDatagrams(t *testing.T, n node) {
	t.Helper()
	nothing, err := bpf.RetConstant{Val: 0}.Assemble() // bytes of a packet that pass
	if err == nil {
		err = n.wire.(*sockets).v4.v4.SetBPF([]bpf.RawInstruction{nothing})
	}
	if err != nil {
		t.Fatal(err)
	}
}
