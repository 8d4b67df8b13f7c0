package network

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"github.com/polykv/polykv/internal/wait"
)

// fabricQueue is how many packets a port holds, as a socket's buffer does.
const fabricQueue = 4096

// fabricPort is one node's wire in a Fabric.
type fabricPort struct {
	fabric  *Fabric
	addr    netip.AddrPort
	arrived chan struct{}
	done    chan struct{}
	conns   chan net.Conn

	mu     sync.Mutex
	queue  []fabricPacket
	closed bool
}

type fabricPacket struct {
	from  netip.AddrPort
	bytes []byte
}

var (
	_ wire         = (*fabricPort)(nil)
	_ net.Listener = (*fabricListener)(nil)
)

func (p *fabricPort) local() netip.AddrPort { return p.addr }

func (p *fabricPort) advertise([]string) (choice, error) {
	return choice{addr: p.addr.Addr(), why: "the fabric's"}, nil
}

func (p *fabricPort) send(packet []byte, to []Peer) int {
	p.fabric.awaitThaw(p.addr, p.done)
	for i := range to {
		p.fabric.packet(p.addr, to[i].Addr, packet)
	}
	return 0
}

func (p *fabricPort) sendTo(packet []byte, to netip.AddrPort) error {
	p.fabric.awaitThaw(p.addr, p.done)
	p.fabric.packet(p.addr, to, packet)
	return nil
}

func (p *fabricPort) enqueue(from netip.AddrPort, packet []byte) {
	p.mu.Lock()
	full := p.closed || len(p.queue) >= fabricQueue
	if !full {
		p.queue = append(p.queue, fabricPacket{from, packet})
	}
	p.mu.Unlock()
	if full {
		p.fabric.addLost()
		return
	}
	wait.Signal(p.arrived)
}

func (p *fabricPort) readers() []func(func(netip.AddrPort, []byte)) {
	return []func(func(netip.AddrPort, []byte)){p.read}
}

func (p *fabricPort) read(deliver func(netip.AddrPort, []byte)) {
	var spare []fabricPacket
	for {
		select {
		case <-p.done:
			return
		case <-p.arrived:
		}
		p.fabric.awaitThaw(p.addr, p.done)
		p.mu.Lock()
		packets := p.queue
		p.queue = spare[:0]
		p.mu.Unlock()
		for _, packet := range packets {
			deliver(packet.from, packet.bytes)
		}
		clear(packets)
		spare = packets
	}
}

func (p *fabricPort) listeners() []net.Listener { return []net.Listener{&fabricListener{p}} }

func (p *fabricPort) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return p.fabric.dial(ctx, p.addr, to)
}

func (p *fabricPort) close() {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed {
		return
	}
	p.fabric.detach(p)
	close(p.done)
	for {
		select {
		case conn := <-p.conns:
			_ = conn.Close()
		default:
			return
		}
	}
}

// fabricListener accepts the streams of a port.
type fabricListener struct{ port *fabricPort }

func (l *fabricListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.port.conns:
		l.port.fabric.awaitThaw(l.port.addr, l.port.done)
		return conn, nil
	case <-l.port.done:
		return nil, net.ErrClosed
	}
}

func (l *fabricListener) Close() error   { l.port.close(); return nil }
func (l *fabricListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.port.addr) }
