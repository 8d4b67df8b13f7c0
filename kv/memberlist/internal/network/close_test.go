package network

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// stacks returns those of all goroutines.
func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

func TestCloseEndsAProbeThatIsUnderWay(t *testing.T) {
	f := NewFabric(1)
	a := testConfig("a")
	a.Fabric = f
	a.ProbeInterval, a.ProbeTimeout = time.Hour, time.Hour // it would wait that long
	first := start(t, a, nil)
	b := testConfig("b")
	b.Fabric = f
	b.Join = []string{first.Self().Addr.String()}
	second := start(t, b, nil)
	awaitPeers(t, 1, first, second)
	f.Partition([]netip.AddrPort{second.Self().Addr})
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		_, _ = first.list.Ping(second.Self().ID, second.Self().udp)
	}()
	eventually(t, "the ping is out", func() bool { return strings.Contains(stacks(), "memberlist.(*Memberlist).Ping(") && f.Stats().Lost > 0 })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-probed: // whatever it says
	case <-time.After(patience):
		t.Fatal("the probe goes on after Close")
	}
}

func TestClosedNetworkRefuses(t *testing.T) {
	n := start(t, testConfig("a"), nil)
	peer := n.Self()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if err := n.Send([]byte("x"), peer); !errors.Is(err, ErrClosed) {
		t.Errorf("send: %v", err)
	}
	if _, err := n.Dial(t.Context(), peer); !errors.Is(err, ErrClosed) {
		t.Errorf("dial: %v", err)
	}
	if err := n.Leave(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("leave: %v", err)
	}
}

func TestCloseEndsStreams(t *testing.T) {
	both(t, func(t *testing.T, config func(string) Config) {
		nodes := cluster(t, config, 2)
		conn, err := nodes[0].Dial(t.Context(), nodes[0].Peers()[0])
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is served", func() bool { return nodes[1].Stats().OpenStreams > 0 })
		ended := make(chan error, 1)
		go func() { _, err := conn.Read(make([]byte, 1)); ended <- err }()
		if err := nodes[1].Close(); err != nil { // waits for the handler, which waits for bytes
			t.Fatal(err)
		}
		if err := <-ended; err == nil {
			t.Error("a read from a closed node succeeds")
		}
	})
}

// TestCloseRefusesNobody closes a node while somebody is about to introduce
// itself: that is no input that was refused.
func TestCloseRefusesNobody(t *testing.T) {
	n := start(t, testConfig("a"), nil)
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", n.Self().Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "the stream is waited for", func() bool {
		n.admission.mu.Lock()
		defer n.admission.mu.Unlock()
		return len(n.admission.pending) == 1
	})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if refused := n.Stats().Rejected[CauseHello]; refused != 0 {
		t.Errorf("%d streams count as refused", refused)
	}
}
