package network

import (
	"context"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func TestNodeThatRunsAgainElsewhereIsAMemberAtOnce(t *testing.T) {
	both(t, func(t *testing.T, config func(string) Config) {
		slow := func(name string) Config { // nobody takes the crash for one
			cfg := config(name)
			d := DefaultConfig()
			cfg.ProbeInterval, cfg.ProbeTimeout, cfg.GossipInterval = d.ProbeInterval, d.ProbeTimeout, d.GossipInterval
			cfg.SuspicionMult = 100
			return cfg
		}
		nodes := cluster(t, slow, 3)
		old := nodes[2].Self()
		_ = nodes[2].Close()
		cfg := slow("node-2")
		cfg.Join = []string{nodes[0].Self().Addr.String()}
		again := start(t, cfg, nil)
		if again.Self().Addr == old.Addr && !strings.HasPrefix(old.Addr.String(), "127.") {
			t.Fatal("it has the same address")
		}
		for _, n := range nodes[:2] {
			eventually(t, "the new run is a member beside the old one", func() bool {
				ids := idsOf(n.Peers())
				return slices.Contains(ids, again.Self().ID) && slices.Contains(ids, old.ID)
			})
		}
	})
}

func idsOf(peers []Peer) []string {
	ids := make([]string, len(peers))
	for i, p := range peers {
		ids[i] = p.ID
	}
	return ids
}

func TestStartDoesntWaitForSeeds(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	cfg := testConfig("a")
	cfg.Join = []string{silent.Addr().String(), "127.0.0.1:1", "no-such-name.invalid"}
	cfg.JoinTimeout = 100 * time.Millisecond
	cfg.Resolver = deadResolver()
	n := start(t, cfg, nil)
	select {
	case <-n.Joined():
	case <-time.After(patience):
		t.Error("joining never ends")
	}
	if n.Health().IsolatedSince.IsZero() {
		t.Error("it doesn't feel isolated")
	}
}

// deadResolver finds nothing, at once.
func deadResolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, net.ErrClosed
	}}
}

func TestOwnAddressOnTheListIsNoPeerAndNoIsolation(t *testing.T) {
	cfg := testConfig("a")
	cfg.BindAddress = "0.0.0.0"
	cfg.AdvertiseAddress = "127.0.0.1"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.BindPort = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	other := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), uint16(cfg.BindPort)) // the same node
	cfg.Join = []string{other.String()}
	n := start(t, cfg, nil)
	eventually(t, "it finds out that this is itself", func() bool {
		return n.Health().IsolatedSince.IsZero() && len(n.joiner.others([]netip.AddrPort{other}, math.MaxInt64)) == 0
	})
	for cause, count := range n.Stats().Rejected {
		if count > 0 {
			t.Errorf("%d refused for %s", count, cause)
		}
	}
}

func TestHalvesOfAPartitionFindEachOtherAgain(t *testing.T) {
	f := NewFabric(1)
	nodes := cluster(t, func(name string) Config {
		cfg := testConfig(name)
		cfg.Fabric = f
		return cfg
	}, 6)
	var left []netip.AddrPort
	for _, n := range nodes[:3] {
		left = append(left, n.Self().Addr)
	}
	f.Partition(left)
	awaitPeers(t, 2, nodes...)
	f.Heal()
	awaitPeers(t, 5, nodes...)
	for _, n := range nodes {
		if h := n.Health(); h != (Health{}) {
			t.Errorf("%s: %+v", n.self.Name, h)
		}
	}
}

func TestClusterFormsAndStaysTogetherUnderLoss(t *testing.T) {
	f := NewFabric(1)
	f.SetLoss(0.2)
	f.SetDelay(0, 5*time.Millisecond)
	nodes := cluster(t, func(name string) Config {
		cfg := testConfig(name)
		cfg.Fabric = f
		return cfg
	}, 10)
	if s := f.Stats(); s.Lost == 0 || s.Lost*10 > (s.DataPackets+s.MembershipPackets)*4 {
		t.Errorf("of %d packets %d are lost", s.DataPackets+s.MembershipPackets, s.Lost)
	}
	var got atomic.Int64
	for _, n := range nodes[1:] {
		n.rec.mu.Lock()
		n.rec.inFrames = func() { got.Add(1) }
		n.rec.mu.Unlock()
	}
	for range 200 {
		_ = nodes[0].Send([]byte("x"), nodes[0].Peers()...)
	}
	eventually(t, "most frames arrive, late", func() bool { return got.Load() > 1200 })
	if n := got.Load(); n > 1650 {
		t.Errorf("%d of 1800 frames arrive: nothing is lost", n)
	}
}

// silence is the record of a name that is never answered.
const silence = "silence"

// nameServer answers DNS queries from its records.
func nameServer(t *testing.T, records map[string][]string) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		q := r.Question[0]
		if slices.Contains(records[strings.TrimSuffix(q.Name, ".")], silence) {
			return
		}
		for _, text := range records[strings.TrimSuffix(q.Name, ".")] {
			rr, err := dns.NewRR(q.Name + " 0 IN " + text)
			if err == nil && rr.Header().Rrtype == q.Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(records[strings.TrimSuffix(q.Name, ".")]) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = pc.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

func TestJoinListIsResolved(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Resolver = nameServer(t, map[string][]string{
		"one.example":           {"A 10.0.0.1"},
		"many.example":          {"A 10.0.0.2", "A 10.0.0.3", "AAAA 2001:db8::1"},
		"_gossip._tcp.example":  {"SRV 0 0 7001 one.example.", "SRV 0 0 7002 many.example.", "SRV 0 0 7003 gone.example."},
		"_nothing._tcp.example": {"TXT hello"},
		"silent.example":        {silence},
	})
	r := newResolver(&cfg)
	for entry, want := range map[string]string{
		"10.1.2.3:99":                    "10.1.2.3:99",
		"10.1.2.3":                       "10.1.2.3:7946",
		"[2001:db8::2]:99":               "[2001:db8::2]:99",
		"2001:db8::2":                    "[2001:db8::2]:7946",
		"one.example:99":                 "10.0.0.1:99",
		"one.example":                    "10.0.0.1:7946",
		"dns+many.example:99":            "10.0.0.2:99 10.0.0.3:99 [2001:db8::1]:99",
		"dnssrv+_gossip._tcp.example":    "10.0.0.1:7001 10.0.0.2:7002 10.0.0.3:7002 [2001:db8::1]:7002 error",
		"gone.example:1":                 "error",
		"dnssrv+_nothing._tcp.example.":  "error",
		"dnssrvnoa+_gossip._tcp.example": "10.0.0.1:7001 10.0.0.2:7002 10.0.0.3:7002 [2001:db8::1]:7002 error",
	} {
		addrs, err := r.resolve(t.Context(), []string{entry})
		slices.SortFunc(addrs, netip.AddrPort.Compare)
		var got []string
		for _, a := range addrs {
			got = append(got, a.String())
		}
		if err != nil {
			got = append(got, "error")
			if !strings.Contains(err.Error(), entry) {
				t.Errorf("%s: the error %q doesn't name it", entry, err)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q (%v), want %q", entry, got, err, want)
		}
	}
	if addrs, err := r.resolve(t.Context(), []string{"gone.example", "one.example"}); len(addrs) != 1 || err == nil {
		t.Errorf("one of two: %v, %v", addrs, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if addrs, err := r.resolve(ctx, []string{"silent.example", "10.1.2.3", "one.example"}); len(addrs) != 2 || err == nil {
		t.Errorf("beside a name that isn't answered: %v, %v", addrs, err)
	}
	if _, err := r.resolve(ctx, []string{"one.example"}); err == nil {
		t.Error("it resolves after its context has ended")
	}
}

func TestNamesAreResolvedAgainForEachAttempt(t *testing.T) {
	first := start(t, testConfig("first"), nil)
	records := map[string][]string{}
	var ready atomic.Bool
	records["seed.example"] = []string{"A 127.0.0.1"}
	resolver := nameServer(t, records)
	dial := resolver.Dial
	resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if !ready.Load() {
			return nil, net.ErrClosed // no name server yet
		}
		return dial(ctx, network, address)
	}
	cfg := testConfig("second")
	cfg.Resolver = resolver
	cfg.Join = []string{netip.AddrPortFrom(first.Self().Addr.Addr(), first.Self().Addr.Port()).String()}
	cfg.Join[0] = "dns+seed.example" + cfg.Join[0][strings.LastIndex(cfg.Join[0], ":"):]
	second := start(t, cfg, nil)
	<-second.Joined()
	if len(second.Peers()) != 0 {
		t.Fatal("it has a peer without a name server")
	}
	ready.Store(true)
	awaitPeers(t, 1, first, second)
}

func TestJoinEntriesAreChecked(t *testing.T) {
	for _, good := range []string{"a", "a:1", "10.0.0.1:1", "[::1]:1", "::1", "dns+a:1", "dns+a", "dnssrv+_a._tcp.b", "dnssrvnoa+_a._tcp.b"} {
		if err := CheckJoin(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", ":1", "a:0", "a:x", "a:70000", "dns+", "dns+:1", "dnssrv+", "dnssrv+a:1", "http://a", "a b", "a:1:2:z", "dnssrvnoa+", "srv+a:1"} {
		if err := CheckJoin(bad); err == nil || (bad != "" && !strings.Contains(err.Error(), bad)) {
			t.Errorf("%q: error %v", bad, err)
		}
	}
}

// Behind a balancer an address leads to this node now, and to another one later.
func TestAddressThatLedBackIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFabric(1)
		balancer, err := f.attach("10.9.9.9", 1)
		if err != nil {
			t.Fatal(err)
		}
		var target atomic.Pointer[netip.AddrPort]
		var wg sync.WaitGroup
		defer wg.Wait()
		defer balancer.close()
		wg.Go(func() {
			for {
				in, err := (&fabricListener{balancer}).Accept()
				if err != nil {
					return
				}
				out, err := balancer.dial(t.Context(), *target.Load())
				if err != nil {
					_ = in.Close()
					continue
				}
				for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
					wg.Go(func() {
						_, _ = io.Copy(way[1], way[0])
						_ = way[1].Close()
					})
				}
			}
		})
		config := func(name string) Config {
			cfg := testConfig(name)
			cfg.Fabric = f
			return cfg
		}
		other := start(t, config("other"), nil)
		cfg := config("a")
		cfg.Join, cfg.AdvertiseAddress = []string{"10.9.9.9:1"}, "10.9.9.1"
		own, elsewhere := netip.MustParseAddrPort("10.9.9.1:7946"), other.Self().Addr
		target.Store(&own)
		n := start(t, cfg, nil)
		time.Sleep(time.Second)
		if !n.Health().IsolatedSince.IsZero() {
			t.Errorf("%s waits for itself", n.Self().Addr)
		}
		target.Store(&elsewhere)
		time.Sleep(ownFor + time.Second)
		if len(n.Peers()) != 1 {
			t.Errorf("%d peers", len(n.Peers()))
		}
		_, _ = n.Close(), other.Close()
	})
}
