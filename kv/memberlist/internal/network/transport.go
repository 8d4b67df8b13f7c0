package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

// transport is what memberlist sends and receives by: its packets and streams,
// wrapped as everything else. memberlist itself knows no label and no key.
type transport struct {
	n        *Network
	packets  chan *memberlist.Packet
	streams  chan net.Conn
	outgoing inspector
	incoming inspector
	filling  chan struct{} // one for each stream whose first message is being read
	closing  atomic.Bool
	done     chan struct{}

	mu       sync.Mutex
	pings    [pendingPings]uint32 // the last ones sent
	nextPing int
	leave    chan struct{} // closed when this node's own leave went out
	left     bool
}

// pendingPings is more than memberlist has under way: one of its own, and those
// that others ask it for.
const pendingPings = 64

// maxFilling bounds the memory of messages that are being read.
const maxFilling = 32

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(n *Network) *transport {
	t := &transport{
		n:       n,
		packets: make(chan *memberlist.Packet, 256),
		streams: make(chan net.Conn),
		filling: make(chan struct{}, maxFilling),
		done:    make(chan struct{}),
		leave:   make(chan struct{}),
	}
	handle := &codec.MsgpackHandle{}
	t.incoming = inspector{
		handle: handle, maxMembers: n.cfg.MaxMembers, left: n.members.left, suspected: n.members.suspected, refuted: n.members.refuted,
	}
	t.outgoing = inspector{
		handle: handle, maxMembers: n.cfg.MaxMembers, left: func(string) {}, suspected: n.members.suspected,
		pinged: t.pinged, leaving: t.leaving,
	}
	return t
}

// FinalAdvertiseAddr returns the address that others are told.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	self := t.n.self.Addr
	return self.Addr().AsSlice(), int(self.Port()), nil
}

// WriteToAddress sends a packet.
func (t *transport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, addr.Addr)
}

var errTransportClosed = errors.New("the transport is closed")

// WriteTo sends a packet.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	_ = t.outgoing.packet(b) // before closing is looked at, so that Shutdown knows each ping that went out
	if t.closing.Load() {
		return time.Time{}, errTransportClosed
	}
	now := time.Now()
	return now, t.n.sendPacket(kindMembership, b, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
}

// pinged remembers a ping that is under way.
func (t *transport) pinged(seqNo uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pings[t.nextPing%pendingPings] = seqNo
	t.nextPing++
}

// leaving is called when memberlist first tells anybody that this node leaves.
// Then everybody is told at once: gossip would take seconds, after which the
// process is gone.
func (t *transport) leaving(msg []byte) {
	t.mu.Lock()
	if t.left {
		t.mu.Unlock()
		return
	}
	t.left = true
	t.mu.Unlock()
	t.n.sendAll(kindMembership, msg, t.n.Peers())
	close(t.leave)
}

// PacketCh returns the packets for memberlist.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh returns the streams for memberlist.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// receive hands a packet to memberlist, if it is one that memberlist can bear.
// It doesn't wait: data frames come through the same reader.
func (t *transport) receive(from netip.AddrPort, payload []byte) {
	if err := t.incoming.packet(payload); err != nil {
		t.n.rejects.add(CauseMembership, from, err.Error())
		return
	}
	if t.closing.Load() {
		return
	}
	packet := &memberlist.Packet{
		Buf: append([]byte(nil), payload...), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now(),
	}
	select {
	case t.packets <- packet:
	default:
		t.n.rejects.add(CauseQueue, from, "")
	}
}

// DialAddressTimeout opens a stream.
func (t *transport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(addr.Addr, timeout)
}

// DialTimeout opens a stream.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	ctx, cancel := t.n.withTimeout(timeout)
	defer cancel()
	conn, err := t.n.dial(ctx, to, kindMembership)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	return t.memberConn(conn, to, 2*timeout), nil
}

// accept reads the message that a stream for memberlist begins with, and hands
// both to memberlist.
func (t *transport) accept(conn *streamConn) {
	mc := t.memberConn(conn, netip.AddrPort{}, 2*t.n.cfg.JoinTimeout)
	if !t.fillFirst(mc) {
		_ = mc.Close()
		return
	}
	select {
	case t.streams <- mc:
	case <-t.done:
		_ = mc.Close()
	}
}

// fillFirst reads the first message when there is room for it.
func (t *transport) fillFirst(mc *memberConn) bool {
	timer := time.NewTimer(t.n.cfg.JoinTimeout)
	defer timer.Stop()
	select {
	case t.filling <- struct{}{}:
		defer func() { <-t.filling }()
		return mc.fill() == nil
	case <-timer.C:
		t.n.rejects.add(CauseConnections, mc.RemoteAddr(), "membership")
	case <-t.done:
	}
	return false
}

// memberConn is a stream of memberlist's: one message each way.
type memberConn struct {
	*streamConn
	t       *transport
	to      netip.AddrPort // zero: the other opened it
	message []byte
	filled  bool
	over    *time.Timer
}

// memberConn returns a stream that is over after a while, whatever memberlist does
// with it.
func (t *transport) memberConn(conn *streamConn, to netip.AddrPort, limit time.Duration) *memberConn {
	over := time.AfterFunc(limit, func() { _ = conn.Close() })
	return &memberConn{streamConn: conn, t: t, to: to, over: over}
}

// Close ends the stream.
func (c *memberConn) Close() error {
	c.over.Stop()
	return c.streamConn.Close()
}

// Write sends memberlist's message. It probes by a stream when a datagram had
// no answer.
func (c *memberConn) Write(b []byte) (int, error) {
	if len(b) > 0 && b[0] == msgPing && c.to.IsValid() {
		c.t.n.paths.doubt(c.to)
	}
	if err := c.writeMessage(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// fill reads the other's message and looks at it.
func (c *memberConn) fill() error {
	message, err := c.readMessage(c.t.maxMessage())
	if err != nil {
		return err
	}
	if err := c.t.incoming.stream(message); err != nil {
		c.t.n.rejects.add(CauseMembership, c.RemoteAddr(), err.Error())
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	c.message, c.filled = message, true
	return nil
}

// Read returns the other's message, then nothing.
func (c *memberConn) Read(b []byte) (int, error) {
	if !c.filled {
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	if len(c.message) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.message)
	c.message = c.message[n:]
	return n, nil
}

// maxMessage is how many bytes a message of as many members as there may be
// can have.
func (t *transport) maxMessage() int { return 64<<10 + 2*t.n.cfg.MaxMembers*256 }

// Shutdown ends what memberlist waits for: its goroutines would otherwise stay
// until the timeouts of the probes that are under way.
func (t *transport) Shutdown() error {
	if t.closing.Swap(true) {
		return nil
	}
	t.mu.Lock()
	pings := append([]uint32(nil), t.pings[:min(t.nextPing, pendingPings)]...)
	t.mu.Unlock()
	for _, seqNo := range pings {
		select {
		case t.packets <- &memberlist.Packet{Buf: ackMsg(seqNo), From: net.UDPAddrFromAddrPort(t.n.self.Addr), Timestamp: time.Now()}:
		case <-time.After(time.Second): // memberlist doesn't listen; nothing to be ended, then
		}
	}
	// memberlist stops listening as soon as this returns, whatever is left.
	for deadline := time.Now().Add(time.Second); len(t.packets) > 0 && time.Now().Before(deadline); {
		time.Sleep(100 * time.Microsecond)
	}
	close(t.done)
	return nil
}
