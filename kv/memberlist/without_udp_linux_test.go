package memberlist

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"

	"github.com/polykv/polykv/codec"
)

// TestChangesWithoutUDP has the kernel drop every datagram of three nodes.
// Their changes still arrive by themselves, and not by comparisons, and it is
// told.
func TestChangesWithoutUDP(t *testing.T) {
	const changes = 200
	var nodes []*Node
	for i := range 3 {
		cfg := nodeConfig(fmt.Sprintf("node-%d", i))
		if i > 0 {
			cfg.Join = []string{nodes[0].Address()}
		}
		nodes = append(nodes, startNode(t, cfg, nil))
		dropDatagrams(t, nodes[i].Address())
	}
	for _, n := range nodes {
		awaitPeerCount(t, n, 2)
		soon(t, n.Name()+" has turned to TCP", func() bool { return n.net.Stats().ByStreamPeers == 2 })
		if err := n.Ping(t.Context()); err != nil {
			t.Errorf("ping: %v", err)
		}
		if code, body := probe(t, n); code != 200 || !strings.Contains(body, "datagrams (UDP) get no answer from 2 of 2 peers") {
			t.Errorf("a probe is answered with %d %q", code, body)
		}
		if _, _, page := get(t, n.StatusHandler(), ""); strings.Count(page, "by TCP only") != 2 {
			t.Error("the page doesn't say it of both members")
		}
		n.Figures(func(name, _ string, _ bool, value float64, _ ...string) {
			if name == "polykv_gossip_members_by_tcp" && value != 2 {
				t.Errorf("%s is %v", name, value)
			}
		})
	}

	type arrival struct {
		value string
		at    time.Time
	}
	arrivals := make(chan arrival, changes)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan struct{})
	watcher := clientOf(t, nodes[2], codec.String{})
	go func() {
		defer close(watched)
		watcher.WatchKey(ctx, "key", func(value any) bool {
			text, _ := value.(string)
			arrivals <- arrival{text, time.Now()}
			return true
		})
	}()
	defer func() { cancel(); <-watched }()
	writer := clientOf(t, nodes[0], codec.String{})
	compared := recordsReceived(nodes)
	var took []time.Duration
	for i := range changes {
		value, begin := strconv.Itoa(i), time.Now()
		putValue(t, writer, "key", value)
		for {
			var a arrival
			select {
			case a = <-arrivals:
			case <-time.After(patience):
				t.Fatalf("change %d doesn't arrive", i)
			}
			if a.value == value {
				took = append(took, a.at.Sub(begin))
				break
			}
		}
	}
	slices.Sort(took)
	t.Logf("from a CAS to the callback of another node: %v median, %v 99th percentile", took[len(took)/2], took[len(took)*99/100])
	if by := recordsReceived(nodes) - compared; by > changes/4 {
		t.Errorf("of %d changes %d came by comparisons", changes, by)
	}
}

func recordsReceived(nodes []*Node) (sum uint64) {
	for _, n := range nodes {
		sum += n.spread.Stats().Counters["records_received"]
	}
	return sum
}

// dropDatagrams finds the node's socket among those of this process, and has the
// kernel drop what comes to it.
func dropDatagrams(t *testing.T, address string) {
	t.Helper()
	port := int(netip.MustParseAddrPort(address).Port())
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		local, err := syscall.Getsockname(fd)
		in, ok := local.(*syscall.SockaddrInet4)
		if kind, _ := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil || !ok || in.Port != port || kind != syscall.SOCK_DGRAM {
			continue
		}
		if err := dropAll(fd); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no socket for datagrams at %s", address)
}

// dropAll lets nothing through to a socket.
func dropAll(fd int) error {
	nothing, err := bpf.RetConstant{Val: 0}.Assemble() // bytes of a packet that pass
	if err != nil {
		return err
	}
	same, err := syscall.Dup(fd) // the filter is the socket's, not the descriptor's
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(same), "socket")
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	err = ipv4.NewPacketConn(conn).SetBPF([]bpf.RawInstruction{nothing})
	return errors.Join(err, conn.Close(), file.Close())
}
