package network

import (
	"net"
	"net/netip"
	"runtime"
	"sync"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// udpSocket sends one packet to many peers by one system call where the
// operating system has one for that (Linux: sendmmsg).
type udpSocket struct {
	conn *net.UDPConn
	v4   *ipv4.PacketConn // one of them
	v6   *ipv6.PacketConn
	pool sync.Pool // of *batch
}

type batch struct {
	messages []ipv4.Message // the same type as ipv6.Message
	packet   [][]byte       // what all of them send
}

func newUDPSocket(conn *net.UDPConn, v4 bool) *udpSocket {
	s := &udpSocket{conn: conn}
	s.pool.New = func() any { return &batch{packet: make([][]byte, 1)} }
	if v4 {
		s.v4 = ipv4.NewPacketConn(conn)
	} else {
		s.v6 = ipv6.NewPacketConn(conn)
	}
	return s
}

// maxBatch is how many messages one system call takes (UIO_MAXIOV).
const maxBatch = 1024

// sendAll sends packet to those peers whose address is of the socket's family
// and returns how many of all it was not sent to.
func (s *udpSocket) sendAll(packet []byte, to []Peer, mine func(netip.Addr) bool) (unsent int) {
	if runtime.GOOS == "windows" {
		return s.sendEach(packet, to, mine)
	}
	b := s.pool.Get().(*batch)
	defer s.pool.Put(b)
	b.packet[0] = packet
	b.messages = b.messages[:0]
	for i := range to {
		if mine(to[i].Addr.Addr()) && to[i].udp != nil {
			b.messages = append(b.messages, ipv4.Message{Buffers: b.packet, Addr: to[i].udp})
		} else {
			unsent++
		}
	}
	for rest := b.messages; len(rest) > 0; {
		n, err := s.write(rest[:min(len(rest), maxBatch)])
		if err != nil || n == 0 { // of the first of them: leave that out
			unsent++
			n = 1
		}
		rest = rest[n:]
	}
	clear(b.messages)
	b.packet[0] = nil
	return unsent
}

func (s *udpSocket) write(messages []ipv4.Message) (int, error) {
	if s.v4 != nil {
		return s.v4.WriteBatch(messages, dontWait)
	}
	return s.v6.WriteBatch(messages, dontWait)
}

func (s *udpSocket) sendEach(packet []byte, to []Peer, mine func(netip.Addr) bool) (unsent int) {
	for i := range to {
		if !mine(to[i].Addr.Addr()) {
			unsent++
		} else if _, err := s.conn.WriteToUDPAddrPort(packet, to[i].Addr); err != nil {
			unsent++
		}
	}
	return unsent
}
