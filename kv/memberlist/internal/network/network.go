package network

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Errors of Send and Dial.
var (
	ErrClosed        = errors.New("the node is closed")
	ErrFrameTooLarge = errors.New("frame is larger than a datagram holds")
)

// Network is one node's part in a cluster. Its methods may be called
// concurrently.
type Network struct {
	cfg       Config
	handler   Handler
	logger    *slog.Logger
	self      Peer
	ring      atomic.Pointer[ring]
	wire      wire
	rejects   *rejects
	members   *members
	transport *transport
	list      *memberlist.Memberlist
	admission *admission
	joiner    *joiner
	repairer  *repairer
	paths     *paths
	trafficMu sync.Mutex
	traffic   Stats     // what is counted here
	gate      gate      // of the handler's calls
	logGate   gate      // of memberlist's log
	bufs      sync.Pool // of *cryptBuf

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
	leaveMu   sync.Mutex
	left      bool
}

// Start binds the node's ports, makes it known to itself, and starts joining in
// the background: it doesn't fail because nobody else is up. ctx bounds Start
// alone.
func Start(ctx context.Context, cfg Config, handler Handler) (*Network, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := newRing(cfg.Security)
	if err != nil {
		return nil, err
	}
	if cfg.Instance == 0 {
		cfg.Instance = RandomInstance()
	}
	n := &Network{cfg: cfg, handler: handler, logger: cfg.Logger, rejects: newRejects(cfg.Logger)}
	n.bufs.New = func() any { return &cryptBuf{packet: make([]byte, 0, 2048)} }
	n.ring.Store(r)
	n.self = Peer{Name: cfg.Name, Instance: cfg.Instance, Started: time.Now()}
	n.self.ID = memberID(n.self.Name, n.self.Instance)
	n.self.Joined = n.self.Started
	if err := n.bind(ctx); err != nil {
		return nil, err
	}
	n.members = newMembers(n.self.ID, &n.cfg, n.rejects, n.self.Started, func() bool { return n.ring.Load().Label != "" })
	n.transport = newTransport(n)
	n.admission = newAdmission(cfg.MaxStreams)
	n.joiner = newJoiner(n)
	n.repairer = &repairer{n: n}
	n.paths = newPaths(n)
	n.ctx, n.cancel = context.WithCancel(context.WithoutCancel(ctx))
	n.list, err = memberlist.Create(n.memberlistConfig())
	if err != nil {
		n.cancel()
		n.wire.close()
		return nil, fmt.Errorf("start the membership: %w", err)
	}
	n.run()
	return n, nil
}

// RandomInstance returns a number for one run of a node, which is never 0.
func RandomInstance() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return max(binary.BigEndian.Uint64(b[:]), 1)
}

// bind opens the ports and finds out what to advertise.
func (n *Network) bind(ctx context.Context) error {
	var err error
	if n.cfg.Fabric != nil {
		n.wire, err = n.cfg.Fabric.attach(n.cfg.AdvertiseAddress, cmp.Or(n.cfg.AdvertisePort, n.cfg.BindPort))
	} else {
		n.wire, err = listen(ctx, n.cfg.BindAddress, n.cfg.BindPort)
	}
	if err != nil {
		return fmt.Errorf("listen for gossip: %w", err)
	}
	chosen := choice{why: "advertise_address"}
	if n.cfg.AdvertiseAddress != "" {
		chosen.addr, err = netip.ParseAddr(n.cfg.AdvertiseAddress)
	} else {
		chosen, err = n.wire.advertise(n.cfg.InterfaceNames)
	}
	if err != nil {
		n.wire.close()
		return fmt.Errorf("find an address to advertise: %w", err)
	}
	port := cmp.Or(n.cfg.AdvertisePort, int(n.wire.local().Port()))
	n.self.Addr = netip.AddrPortFrom(chosen.addr.Unmap(), uint16(port))
	if !allowed(n.cfg.AllowedCIDRs, n.self.Addr.Addr()) { // nobody would take it for a member, not even itself
		n.wire.close()
		return fmt.Errorf("allowed_cidrs: the node's own address %s is in none of them; one with it is required", n.self.Addr.Addr())
	}
	n.self.udp = net.UDPAddrFromAddrPort(n.self.Addr)
	n.logChoice(ctx, chosen)
	return nil
}

// logChoice says where others will look for this node: when it is not found,
// that is the first question.
func (n *Network) logChoice(ctx context.Context, c choice) {
	level := slog.LevelInfo
	if c.guess {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("address", n.self.Addr.String()), slog.String("why", c.why)}
	if c.iface != "" {
		attrs = append(attrs, slog.String("interface", c.iface))
	}
	n.logger.LogAttrs(ctx, level, "gossip: others are told to reach this node at this address", attrs...)
}

func (n *Network) memberlistConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = n.self.ID
	c.Transport = n.transport
	c.AdvertiseAddr, c.AdvertisePort = n.self.Addr.Addr().String(), int(n.self.Addr.Port())
	c.BindPort = int(n.self.Addr.Port())
	c.TCPTimeout = n.cfg.JoinTimeout
	c.ProbeInterval, c.ProbeTimeout = n.cfg.ProbeInterval, n.cfg.ProbeTimeout
	c.GossipInterval = n.cfg.GossipInterval
	c.PushPullInterval = n.cfg.PushPullInterval
	c.SuspicionMult = n.cfg.SuspicionMult
	c.EnableCompression = false // costs more than all the rest
	c.UDPBufferSize = n.cfg.MaxPacket - maxOverhead
	c.DelegateProtocolMin, c.DelegateProtocolMax, c.DelegateProtocolVersion = protocolMin, protocolMax, protocolCur
	c.Delegate = &delegate{n}
	c.Ping = &delegate{n}
	c.Events = n.members
	c.Alive = n.members
	c.Merge = n.members
	c.Logger = bridge(n.logger, &n.logGate)
	return c
}

// run starts the goroutines that Close waits for.
func (n *Network) run() {
	for _, read := range n.wire.readers() {
		buf := &cryptBuf{packet: make([]byte, 0, 2048)}
		n.wg.Go(func() {
			read(func(from netip.AddrPort, packet []byte) { n.receive(buf, from, packet) })
		})
	}
	for _, l := range n.wire.listeners() {
		n.wg.Go(func() { n.accept(l) })
	}
	n.wg.Go(n.announce)
	n.wg.Go(n.joiner.run)
}

// announce tells the handler of changes, one call at a time.
func (n *Network) announce() {
	// Members that are gone are forgotten by time alone, and foundings settle.
	tick := time.NewTicker(min(time.Minute, n.cfg.Settle))
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case now := <-tick.C:
			n.members.settle(now)
			n.members.publish()
		case <-n.members.newer:
			n.handler.PeersChanged(n.members.publish())
			n.tell()
			if n.members.warnUnlabelled() {
				n.logger.Warn("gossip: joined other nodes without a cluster_label, which keeps clusters apart that reach each other by accident: give every cluster one")
			}
		}
	}
}

// Self returns this node, as others see it.
func (n *Network) Self() Peer { return n.self }

// Peers returns the live members other than this node, sorted by ID: a snapshot
// that must not be modified. It takes no lock.
func (n *Network) Peers() []Peer { return *n.members.snapshot.Load() }

// Joined returns a channel that is closed once everything on the join list has
// been tried, or something has answered. By then Peers has whom it told of.
func (n *Network) Joined() <-chan struct{} { return n.joiner.joined }

// Health returns what this node knows about its connection to the rest. It
// takes no lock.
func (n *Network) Health() Health { return *n.members.health.Load() }

// Members returns all members that are known, this node included, sorted by
// state and name.
func (n *Network) Members() []Member {
	all := append(n.members.list(), Member{Peer: n.self, State: Alive, Since: n.self.Started})
	order := map[State]int{Alive: 0, Suspect: 1, Failed: 2, Left: 3}
	for i := range all {
		all[i].ByStream = n.paths.stream(all[i].Addr) != nil
	}
	slices.SortFunc(all, func(a, b Member) int {
		return cmp.Or(cmp.Compare(order[a.State], order[b.State]), cmp.Compare(a.ID, b.ID))
	})
	return all
}

// SetSecurity replaces labels and keys, all at once. To exchange a key without
// a gap, give every node both with the old one first, then both with the new
// one first, then the new one alone; likewise for labels.
func (n *Network) SetSecurity(s Security) error {
	r, err := newRing(s)
	if err != nil {
		return err
	}
	n.ring.Store(r)
	return nil
}

// Encrypted tells whether this node sends encrypted.
func (n *Network) Encrypted() bool { return n.ring.Load().seal != nil }

// Stats returns counts since the start.
func (n *Network) Stats() Stats {
	n.trafficMu.Lock()
	s := n.traffic
	n.trafficMu.Unlock()
	s.Rejected = n.rejects.counts()
	s.OpenStreams = n.admission.open()
	s.ByStreamPeers = n.paths.byStream()
	return s
}

// Leave tells the others that this node goes, and returns when they were told
// (not when all have heard it) or ctx has ended. The node stays reachable until
// Close, but isn't a member any more.
func (n *Network) Leave(ctx context.Context) error {
	n.leaveMu.Lock()
	defer n.leaveMu.Unlock()
	if n.ctx.Err() != nil {
		return ErrClosed
	}
	if n.left {
		return nil
	}
	n.left = true
	// Only notes that the node leaves: waiting is done here, where it ends with
	// ctx.
	_ = n.list.Leave(time.Nanosecond)
	peers := n.Peers()
	if len(peers) == 0 {
		return nil
	}
	// A ping carries what is waiting to be told, so nobody waits for the next
	// interval of gossip; see transport.leaving.
	n.wg.Go(func() {
		to := peers[0]
		_, _ = n.list.Ping(to.ID, net.UDPAddrFromAddrPort(to.Addr))
	})
	select {
	case <-n.transport.leave:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("tell the cluster that this node leaves: %w", context.Cause(ctx))
	}
}

// Close ends the node without telling the others, waits for the goroutines
// (Handler calls included) and is idempotent.
func (n *Network) Close() error {
	n.closeOnce.Do(func() {
		n.cancel()
		n.logGate.close() // what ends now fails, which is no news
		n.leaveMu.Lock()  // memberlist panics if it is left after its end
		_ = n.list.Shutdown()
		n.leaveMu.Unlock()
		n.wire.close()
		n.admission.closeAll()
		n.gate.close()
	})
	n.wg.Wait()
	return nil
}

// withTimeout returns a context that ends with the network.
func (n *Network) withTimeout(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(n.ctx, d)
}

// Stats counts what a node has sent, received and refused.
type Stats struct {
	FramesSent, FramesReceived         uint64
	FrameBytesSent, FrameBytesReceived uint64 // with all that is around a frame
	MembershipSent, MembershipReceived uint64 // packets
	MembershipBytesSent                uint64
	MembershipBytesReceived            uint64
	StreamsOpened, StreamsAccepted     uint64
	StreamBytes                        uint64 // both ways
	OpenStreams                        int
	ByStreamSent, ByStreamReceived     uint64 // packets that went by streams in place of datagrams
	ByStreamPeers                      int    // whose packets do
	Rejected                           map[Cause]uint64
}

// count changes the counts.
func (n *Network) count(f func(s *Stats)) {
	n.trafficMu.Lock()
	defer n.trafficMu.Unlock()
	f(&n.traffic)
}
