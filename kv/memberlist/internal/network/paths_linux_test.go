package network

import (
	"syscall"
	"testing"
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
	raw, err := n.wire.(*sockets).v4.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var attached error
	err = raw.Control(func(fd uintptr) {
		const nothing = 0 // bytes of a packet that pass
		filter := []syscall.SockFilter{*syscall.LsfStmt(syscall.BPF_RET|syscall.BPF_K, nothing)}
		attached = syscall.AttachLsf(int(fd), filter)
	})
	if err != nil || attached != nil {
		t.Fatal(err, attached)
	}
}
