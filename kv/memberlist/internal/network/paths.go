package network

import (
	"context"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// paths knows which peers answer no datagrams although they take connections,
// as behind a firewall or in a mesh that carries TCP alone. Packets to those go
// by a stream instead, those of memberlist included, so that all else works as
// ever: probes are answered, changes are numbered, gaps are asked for.
//
// A path is looked at when memberlist's probe had no answer by datagram, and
// that of all others as soon as one turned out to be bad.
type paths struct {
	n       *Network
	streams atomic.Pointer[map[netip.AddrPort]*packetStream] // of those that take no datagrams; doesn't change

	mu    sync.Mutex
	next  map[netip.AddrPort]time.Time // when to look again, at the soonest
	asked map[uint64]chan struct{}     // by number: closed when the echo comes
}

const (
	pathTries = 3
	pathPause = 5 * time.Second // between two looks at one path
)

// The payload of a packet of kindPath: 1 byte, 8 bytes number. An echo goes by
// datagram whatever is known of the path.
const (
	pathAsk = iota
	pathEcho
	pathSize = 1 + 8
)

func newPaths(n *Network) *paths {
	p := &paths{n: n, next: map[netip.AddrPort]time.Time{}, asked: map[uint64]chan struct{}{}}
	p.streams.Store(&map[netip.AddrPort]*packetStream{})
	return p
}

// stream returns by what packets reach an address; nil: by datagrams.
func (p *paths) stream(addr netip.AddrPort) *packetStream { return (*p.streams.Load())[addr] }

// split sends to those that take no datagrams, and returns the others.
func (p *paths) split(kind byte, payload []byte, to []Peer) []Peer {
	if p.byStream() == 0 {
		return to
	}
	rest := make([]Peer, 0, len(to))
	for i := range to {
		if s := p.stream(to[i].Addr); s != nil {
			p.n.enqueue(s, kind, payload)
		} else {
			rest = append(rest, to[i])
		}
	}
	return rest
}

// set notes the stream of an address; nil: it takes datagrams.
func (p *paths) set(addr netip.AddrPort, s *packetStream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := maps.Clone(*p.streams.Load())
	if s == nil {
		delete(all, addr)
	} else {
		all[addr] = s
	}
	p.streams.Store(&all)
}

// byStream returns how many peers are reached by streams.
func (p *paths) byStream() int { return len(*p.streams.Load()) }

// doubt looks at the path to a peer in the background.
func (p *paths) doubt(addr netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Before(p.next[addr]) {
		return
	}
	if len(p.next) > 2*p.n.cfg.MaxMembers {
		maps.DeleteFunc(p.next, func(_ netip.AddrPort, next time.Time) bool { return next.Before(now) })
	}
	p.next[addr] = now.AddDate(1, 0, 0) // while it is being looked at
	p.n.gate.run(func() {               // not once Close waits
		p.n.wg.Go(func() {
			p.look(addr)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.next[addr] = time.Now().Add(pathPause)
		})
	})
}

// doubtAll looks at the paths to all peers.
func (p *paths) doubtAll() {
	for _, peer := range p.n.Peers() {
		p.doubt(peer.Addr)
	}
}

// look asks by datagrams, and without an answer by a connection; that stays
// open for packets until datagrams are answered again.
func (p *paths) look(addr netip.AddrPort) {
	for {
		for range pathTries {
			if p.ask(addr) {
				return
			}
		}
		if s := p.open(addr); s == nil || !p.use(addr, s) {
			return
		}
	}
}

// open opens a stream for packets; nil: the peer can't be reached at all, which
// is for probes to tell.
func (p *paths) open(addr netip.AddrPort) *packetStream {
	n := p.n
	ctx, cancel := n.withTimeout(n.cfg.JoinTimeout)
	defer cancel()
	conn, err := n.dial(ctx, addr, kindPackets)
	if err != nil {
		return nil
	}
	s := newPacketStream(conn, n.cfg.StreamTimeout)
	s.add(kindPath, []byte(n.self.Addr.String()))
	if s.flush() != nil {
		_ = conn.Close()
		return nil
	}
	return s
}

// use sends the packets of a peer by a stream until datagrams are answered or
// the peer is gone. It reports whether the stream broke instead.
func (p *paths) use(addr netip.AddrPort, s *packetStream) (broken bool) {
	n := p.n
	p.set(addr, s)
	n.logger.Warn("gossip: datagrams get no answer, connections do: packets go by TCP", "address", addr)
	p.doubtAll()
	ctx, stop := context.WithCancel(n.ctx)
	defer stop()
	interval := n.cfg.StreamTimeout / 3
	over := make(chan bool, 1)
	n.wg.Go(func() {
		defer stop()
		over <- p.awaitDatagrams(ctx, addr, interval)
	})
	s.run(ctx, interval)
	stop()
	answered := <-over
	p.set(addr, nil)
	_ = s.flush() // what was queued before
	_ = s.conn.Close()
	if answered {
		n.logger.Info("gossip: packets go by datagrams again", "address", addr)
	}
	return !answered && n.ctx.Err() == nil && n.isPeer(addr)
}

// awaitDatagrams asks every interval and returns true once there is an answer,
// false if the peer is gone.
func (p *paths) awaitDatagrams(ctx context.Context, addr netip.AddrPort, interval time.Duration) bool {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
			if !p.n.isPeer(addr) {
				return false
			}
			if p.ask(addr) {
				return true
			}
		}
	}
}

// ask asks for an echo and waits for as long as a probe does.
func (p *paths) ask(addr netip.AddrPort) bool {
	number := RandomInstance()
	echo := make(chan struct{})
	p.mu.Lock()
	p.asked[number] = echo
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.asked, number)
	}()
	p.send(pathAsk, number, addr)
	timer := time.NewTimer(p.n.cfg.ProbeTimeout)
	defer timer.Stop()
	select {
	case <-echo:
		return true
	case <-timer.C:
	case <-p.n.ctx.Done():
	}
	return false
}

func (p *paths) send(what byte, number uint64, to netip.AddrPort) {
	_ = p.n.sendDatagram(kindPath, binary.BigEndian.AppendUint64([]byte{what}, number), to) // never fails
}

// receive handles a datagram of kindPath.
func (p *paths) receive(from netip.AddrPort, payload []byte) {
	if len(payload) != pathSize {
		p.n.rejects.add(CauseShort, from, "path")
		return
	}
	number := binary.BigEndian.Uint64(payload[1:])
	if payload[0] == pathAsk {
		p.send(pathEcho, number, from)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if echo := p.asked[number]; echo != nil {
		close(echo)
		delete(p.asked, number)
	}
}

// isPeer reports whether a live member has that address.
func (n *Network) isPeer(addr netip.AddrPort) bool {
	return slices.ContainsFunc(n.Peers(), func(peer Peer) bool { return peer.Addr == addr })
}
