package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"
)

// socketBuffer is how many bytes of packets the kernel is asked to hold: a
// burst while the process doesn't run must not be lost.
const socketBuffer = 2 << 20

// bindAttempts is how many ports are tried for UDP when TCP chose one freely.
const bindAttempts = 20

// sockets are a UDP and a TCP port of the same number; one of each per address
// family if the node listens on "::".
type sockets struct {
	bound  netip.AddrPort
	v4, v6 *udpSocket // either may be nil
	tcp    []net.Listener
	closed atomic.Bool
}

var _ wire = (*sockets)(nil)

func listen(ctx context.Context, address string, port int) (*sockets, error) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return nil, fmt.Errorf("bind address %q is not an IP address: %w", address, err)
	}
	attempts := 1
	if port == 0 {
		attempts = bindAttempts
	}
	var s *sockets
	for range attempts {
		if s, err = listenOnce(ctx, addr.Unmap(), port); err == nil {
			return s, nil
		}
	}
	return nil, err
}

func listenOnce(ctx context.Context, addr netip.Addr, port int) (_ *sockets, err error) {
	s := &sockets{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	families := []netip.Addr{addr}
	if addr == netip.IPv6Unspecified() {
		families = []netip.Addr{addr, netip.IPv4Unspecified()}
	}
	for i, family := range families {
		err := s.bind(ctx, family, port)
		if i > 0 && err != nil && len(s.tcp) == i { // a machine without IPv4
			break
		}
		if err != nil {
			return nil, err
		}
		port = s.tcp[0].Addr().(*net.TCPAddr).Port
	}
	s.bound = netip.AddrPortFrom(addr, uint16(port))
	return s, nil
}

// bind listens on one address of one family.
func (s *sockets) bind(ctx context.Context, addr netip.Addr, port int) error {
	suffix := "6"
	if addr.Is4() {
		suffix = "4"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp"+suffix, net.JoinHostPort(addr.String(), strconv.Itoa(port)))
	if err != nil {
		return err
	}
	s.tcp = append(s.tcp, l)
	port = l.Addr().(*net.TCPAddr).Port
	pc, err := lc.ListenPacket(ctx, "udp"+suffix, net.JoinHostPort(addr.String(), strconv.Itoa(port)))
	if err != nil {
		return err
	}
	conn := pc.(*net.UDPConn)
	// As much as the kernel allows; a smaller buffer only loses more.
	_ = conn.SetReadBuffer(socketBuffer)
	_ = conn.SetWriteBuffer(socketBuffer)
	if addr.Is4() {
		s.v4 = newUDPSocket(conn, true)
	} else {
		s.v6 = newUDPSocket(conn, false)
	}
	return nil
}

func (s *sockets) local() netip.AddrPort { return s.bound }

func (s *sockets) socketFor(addr netip.Addr) *udpSocket {
	if addr.Is4() {
		return s.v4
	}
	return s.v6
}

var errNoFamily = errors.New("this node has no socket of that address family")

func (s *sockets) sendTo(packet []byte, to netip.AddrPort) error {
	socket := s.socketFor(to.Addr())
	if socket == nil {
		return errNoFamily
	}
	_, err := socket.conn.WriteToUDPAddrPort(packet, to)
	return err
}

func (s *sockets) send(packet []byte, to []Peer) (unsent int) {
	switch {
	case s.v6 == nil:
		return s.v4.sendAll(packet, to, netip.Addr.Is4)
	case s.v4 == nil:
		return s.v6.sendAll(packet, to, netip.Addr.Is6)
	}
	unsent = s.v4.sendAll(packet, to, netip.Addr.Is4) + s.v6.sendAll(packet, to, netip.Addr.Is6)
	return unsent - len(to) // each counts those of the other as unsent
}

func (s *sockets) readers() []func(func(netip.AddrPort, []byte)) {
	var all []func(func(netip.AddrPort, []byte))
	for _, socket := range []*udpSocket{s.v4, s.v6} {
		if socket != nil {
			all = append(all, func(deliver func(netip.AddrPort, []byte)) { s.read(socket, deliver) })
		}
	}
	return all
}

// read reads packets into one buffer, large enough for any.
func (s *sockets) read(socket *udpSocket, deliver func(netip.AddrPort, []byte)) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := socket.conn.ReadFromUDPAddrPort(buf)
		switch {
		case s.closed.Load():
			return
		case err != nil: // such as an ICMP answer to what was sent before
			time.Sleep(time.Millisecond)
		default:
			deliver(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buf[:n])
		}
	}
}

func (s *sockets) listeners() []net.Listener { return s.tcp }

func (s *sockets) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", to.String())
}

func (s *sockets) close() {
	s.closed.Store(true)
	for _, l := range s.tcp {
		_ = l.Close()
	}
	for _, socket := range []*udpSocket{s.v4, s.v6} {
		if socket != nil {
			_ = socket.conn.Close()
		}
	}
}
