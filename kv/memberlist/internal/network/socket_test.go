package network

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestNodesOfBothAddressFamilies(t *testing.T) {
	for _, bind := range []string{"::1", "::"} {
		t.Run(bind, func(t *testing.T) {
			nodes := cluster(t, func(name string) Config {
				cfg := testConfig(name)
				cfg.BindAddress = bind
				if bind == "::" {
					cfg.AdvertiseAddress = "::1"
					if name == "node-1" {
						cfg.AdvertiseAddress = "127.0.0.1"
					}
				}
				return cfg
			}, 3)
			for _, n := range nodes {
				if err := n.Send([]byte("frame"), n.Peers()...); err != nil {
					t.Fatal(err)
				}
				if sent := n.Stats().FramesSent; sent != 2 {
					t.Errorf("%s sent %d frames", n.self.Name, sent)
				}
			}
			for _, n := range nodes {
				eventually(t, "frames of all arrive", func() bool { return n.rec.count() == 2 })
			}
			conn, err := nodes[0].Dial(t.Context(), nodes[0].Peers()[0])
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		})
	}
}

func TestFramesOfAFamilyWithoutSocketAreUnsent(t *testing.T) {
	n := start(t, testConfig("a"), nil) // IPv4
	to := Peer{Addr: netip.MustParseAddrPort("[::1]:1")}
	to.udp = net.UDPAddrFromAddrPort(to.Addr)
	if err := n.Send([]byte("x"), to); err != nil {
		t.Fatal(err)
	}
	if s := n.Stats(); s.Rejected[CauseUnsent] != 1 || s.FramesSent != 0 {
		t.Errorf("%d unsent, %d sent", s.Rejected[CauseUnsent], s.FramesSent)
	}
}

// memberlist would leave a node out of its own list whose address isn't allowed,
// and panic when that is looked up.
func TestOwnAddressMustBeAllowed(t *testing.T) {
	cfg := testConfig("a")
	cfg.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	n, err := Start(t.Context(), cfg, &recorder{})
	if err == nil {
		_ = n.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "allowed_cidrs: the node's own address 127.0.0.1") {
		t.Errorf("error %v", err)
	}
}

func TestOnlyAllowedNetworksAreHeard(t *testing.T) {
	cfg := testConfig("target")
	cfg.BindAddress = "0.0.0.0"
	cfg.AdvertiseAddress = "127.0.0.1"
	cfg.AllowedCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	n := start(t, cfg, nil)
	to := n.Self().Addr.String()
	good := ringOf(t, Security{Label: "test"}).sealPacket(&cryptBuf{}, kindData, []byte("x"))
	send := func(from string) {
		conn, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}).Dial("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write(good); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a stranger's packet is refused", func() bool { send("127.0.0.9"); return n.Stats().Rejected[CauseSource] > 0 })
	if n.rec.count() != 0 {
		t.Error("a stranger's frame arrived")
	}
	eventually(t, "an allowed packet arrives", func() bool { send("127.0.0.1"); return n.rec.count() > 0 })

	before := n.Stats().Rejected[CauseSource]
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.9")}, Timeout: patience}).Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || n.Stats().Rejected[CauseSource] == before {
		t.Errorf("a stranger's stream is served: %v", err)
	}
}
