package memberlist

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/spread"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// A light week costs a sixth of a full one: its nodes have their state, clients,
// frames and comparisons, but a lightNet in place of the network. docs/gossip.md
// says what it doesn't cover.

// The pace of light nodes.
const (
	lightInterval = 8 * time.Minute  // between looks at one of the others
	lightExchange = 20 * time.Minute // between comparisons of nodes that seem equal
	lightTimeout  = 2 * time.Second
	lightMisses   = 2 // in a row, after which one counts as failed
)

// What a stream is for, which its first byte says. What follows the first two is
// the instance of who opened it.
const (
	lightHello  byte = iota + 1 // answered by an instance and what goes with the answer to a probe
	lightLeave                  // the instance leaves
	lightSpread                 // it is the spread's
)

// lightNet carries a node's frames and streams over a Fabric, without keys,
// labels and limits. Who is a member it finds out by itself: it greets one of
// the other addresses after the other.
type lightNet struct {
	socket *network.Socket
	self   network.Peer
	others []netip.AddrPort
	known  *lightDirectory
	spread *spread.Spread
	peers  atomic.Pointer[[]network.Peer]

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex // held while the spread is told
	members map[uint64]network.Peer
	missed  map[netip.AddrPort]int // in a row

	leftMu sync.Mutex
	left   map[string]bool // by ID
}

// lightDirectory tells who an instance is. It is one for all nodes.
type lightDirectory struct {
	mu    sync.Mutex
	peers map[uint64]network.Peer
}

func (d *lightDirectory) add(p network.Peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peers[p.Instance] = p
}

func (d *lightDirectory) get(instance uint64) network.Peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peers[instance]
}

func (l *lightNet) Self() network.Peer    { return l.self }
func (l *lightNet) Peers() []network.Peer { return *l.peers.Load() }
func (l *lightNet) MaxFrame() int         { return 1300 }

func (l *lightNet) HasLeft(id string) bool {
	l.leftMu.Lock()
	defer l.leftMu.Unlock()
	return l.left[id]
}

func (l *lightNet) Send(frame []byte, to ...network.Peer) error {
	for _, p := range to {
		if l.ctx.Err() != nil {
			return network.ErrClosed
		}
		if err := l.socket.Send(frame, p.Addr); err != nil {
			return err
		}
	}
	return nil
}

func (l *lightNet) Dial(ctx context.Context, to network.Peer) (net.Conn, error) {
	return l.dial(ctx, to.Addr, lightSpread, nil)
}

// dial opens a stream and writes its first bytes.
func (l *lightNet) dial(ctx context.Context, to netip.AddrPort, what byte, more []byte) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, lightTimeout)
	defer cancel()
	conn, err := l.socket.Dial(ctx, to)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(lightTimeout))
	if _, err := conn.Write(append([]byte{what}, more...)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// run starts what close waits for.
func (l *lightNet) run() {
	l.wg.Go(func() {
		l.socket.Read(func(from netip.AddrPort, frame []byte) { l.spread.HandleFrame(from, frame) })
	})
	l.wg.Go(func() {
		for {
			conn, err := l.socket.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.serve(conn) })
		}
	})
	l.wg.Go(l.greetAll)
}

// close ends it without a word.
func (l *lightNet) close() {
	l.stop()
	l.socket.Close()
	l.wg.Wait()
}

// greetAll greets the others in turn, at first all of them at once.
func (l *lightNet) greetAll() {
	tick := time.NewTicker(lightInterval)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		l.greet(l.others[turn%len(l.others)])
		if turn < len(l.others) {
			continue
		}
		select {
		case <-tick.C:
		case <-l.ctx.Done():
			return
		}
	}
}

// greet finds out who is at an address.
func (l *lightNet) greet(addr netip.AddrPort) {
	began := time.Now()
	peer, payload, err := l.hello(addr)
	if l.ctx.Err() != nil {
		return
	}
	if err != nil {
		l.miss(addr)
		return
	}
	if peer, ok := l.meet(peer); ok {
		l.spread.HandleAck(peer, time.Since(began), payload)
	}
}

func (l *lightNet) hello(addr netip.AddrPort) (peer network.Peer, payload []byte, err error) {
	conn, err := l.dial(l.ctx, addr, lightHello, binary.BigEndian.AppendUint64(nil, l.self.Instance))
	if err != nil {
		return peer, nil, err
	}
	defer func() { _ = conn.Close() }()
	answer, err := io.ReadAll(conn)
	if err != nil || len(answer) < 8 {
		return peer, nil, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	return l.known.get(binary.BigEndian.Uint64(answer)), answer[8:], nil
}

// serve answers a stream.
func (l *lightNet) serve(conn net.Conn) {
	stop := context.AfterFunc(l.ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(lightTimeout))
	var head [9]byte
	if _, err := io.ReadFull(conn, head[:1]); err != nil {
		return
	}
	if head[0] == lightSpread {
		l.spread.HandleStream(l.ctx, conn)
		return
	}
	if _, err := io.ReadFull(conn, head[1:]); err != nil {
		return
	}
	peer := l.known.get(binary.BigEndian.Uint64(head[1:]))
	if head[0] == lightLeave {
		l.hasLeft(peer)
		return
	}
	_, _ = conn.Write(append(binary.BigEndian.AppendUint64(nil, l.self.Instance), l.spread.AckPayload()...))
	l.meet(peer)
}

// meet notes that a peer is alive, and who was at its address before is not. It
// reports false if the peer said that it leaves.
func (l *lightNet) meet(peer network.Peer) (network.Peer, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.missed[peer.Addr] = 0
	if old, ok := l.members[peer.Instance]; ok || l.HasLeft(peer.ID) {
		return old, ok
	}
	for instance, old := range l.members {
		switch {
		case old.Addr != peer.Addr:
		case old.Started.After(peer.Started):
			return old, false // heard late
		default:
			delete(l.members, instance)
		}
	}
	peer.Joined = time.Now()
	l.members[peer.Instance] = peer
	l.publish()
	return peer, true
}

func (l *lightNet) miss(addr netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.missed[addr]++; l.missed[addr] < lightMisses {
		return
	}
	before := len(l.members)
	maps.DeleteFunc(l.members, func(_ uint64, p network.Peer) bool { return p.Addr == addr })
	if len(l.members) < before {
		l.publish()
	}
}

func (l *lightNet) hasLeft(peer network.Peer) {
	l.leftMu.Lock()
	l.left[peer.ID] = true
	l.leftMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.members, peer.Instance)
	l.publish()
}

// publish tells the spread who is a member; l.mu is held.
func (l *lightNet) publish() {
	peers := slices.SortedFunc(maps.Values(l.members), func(a, b network.Peer) int { return cmp.Compare(a.ID, b.ID) })
	l.peers.Store(&peers)
	l.spread.PeersChanged(peers)
}

// leave tells the others that the node leaves.
func (l *lightNet) leave() error {
	told := len(l.Peers()) == 0
	for _, p := range l.Peers() {
		conn, err := l.dial(l.ctx, p.Addr, lightLeave, binary.BigEndian.AppendUint64(nil, l.self.Instance))
		if err == nil {
			told = true
			_ = conn.Close()
		}
	}
	if !told {
		return fmt.Errorf("%s: nobody could be told that it leaves", l.self.Name)
	}
	return nil
}

// startLight starts a process with a lightNet.
func (c *simCluster) startLight(s *simSlot) (*simProcess, error) {
	instance := network.RandomInstance()
	cfg := c.config(s)
	store, err := state.New(state.Config{
		Instance: instance, Codecs: withBuiltin([]codec.Codec{counts}), Clock: s.clock.now,
		MaxClockSkew: cfg.MaxClockSkew, TombstoneTimeout: cfg.TombstoneTimeout,
		PartitionTolerance: cfg.PartitionTolerance, MaxTombstoneBytes: cfg.MaxTombstoneBytes, Broken: c.broken,
	})
	if err != nil {
		return nil, err
	}
	l := &lightNet{
		self:  network.Peer{ID: fmt.Sprintf("%s/%x", s.name, instance), Name: s.name, Instance: instance, Addr: s.addr, Started: time.Now()},
		known: &c.directory, members: map[uint64]network.Peer{}, missed: map[netip.AddrPort]int{}, left: map[string]bool{},
	}
	l.peers.Store(&[]network.Peer{})
	for _, other := range c.slots {
		if other.addr != s.addr {
			l.others = append(l.others, other.addr)
		}
	}
	if l.socket, err = c.fabric.Socket(s.addr); err != nil {
		return nil, err
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	c.directory.add(l.self)
	how := cfg.spread()
	how.Clock, how.Housekeeping, how.ExchangeInterval, how.Logger = s.clock.now, simHousekeeping, lightExchange, c.log.With("node", s.name)
	l.spread = spread.New(store, how)
	l.spread.Attach(l)
	l.run()
	return l.process(store, newClients(store, cfg.MaxValueBytes, store.Health)), nil
}

func (l *lightNet) process(store *state.Store, clients *clients) *simProcess {
	end := func(ctx context.Context) error {
		clients.close()
		return l.spread.Close(ctx)
	}
	return &simProcess{
		instance: l.self.Instance, store: store, open: clients.new,
		peers: func() (addrs []string) {
			for _, p := range l.Peers() {
				addrs = append(addrs, p.Addr.String())
			}
			return addrs
		},
		health: store.Health,
		close: func() error {
			ctx, cancel := context.WithTimeout(context.Background(), DefaultConfig().CloseTimeout)
			defer cancel()
			err := end(ctx)
			if err == nil {
				err = l.leave()
			} else {
				_ = l.leave()
			}
			l.close()
			return err
		},
		crash: func() (rest func()) {
			l.stop()
			l.socket.Close()
			return func() {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_ = end(ctx)
				l.close()
			}
		},
	}
}
