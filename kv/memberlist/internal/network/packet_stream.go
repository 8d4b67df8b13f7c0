package network

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
)

// packetStream is a stream that carries packets to one peer.
type packetStream struct {
	conn    *streamConn
	timeout time.Duration // of each packet
	wake    chan struct{} // has room for one

	mu    sync.Mutex
	queue [][]byte
	bytes int
}

// Limits of what waits in a packetStream; more is lost, as by a socket whose
// buffer is full.
const (
	maxStreamPackets = 4096
	maxStreamBytes   = 4 << 20
)

func newPacketStream(conn *streamConn, timeout time.Duration) *packetStream {
	return &packetStream{conn: conn, timeout: timeout, wake: make(chan struct{}, 1)}
}

func (s *packetStream) add(kind byte, payload []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= maxStreamPackets || s.bytes >= maxStreamBytes {
		return false
	}
	s.queue = append(s.queue, append([]byte{kind}, payload...))
	s.bytes += len(payload)
	wait.Signal(s.wake)
	return true
}

// flush writes what waits.
func (s *packetStream) flush() error {
	s.mu.Lock()
	queue := s.queue
	s.queue, s.bytes = nil, 0
	s.mu.Unlock()
	for _, packet := range queue {
		_ = s.conn.SetWriteDeadline(time.Now().Add(s.timeout)) // if that fails, so does the write
		if err := s.conn.writeMessage(packet); err != nil {
			return err
		}
	}
	return nil
}

// run writes packets until the stream or ctx ends. The other side hears
// something every interval.
func (s *packetStream) run(ctx context.Context, interval time.Duration) {
	gone := make(chan struct{}) // the other side closed it: it never says anything
	go func() {
		defer close(gone)
		_, _ = s.conn.Read(make([]byte, 1))
	}()
	defer func() {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
		<-gone
	}()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-gone:
			return
		case <-tick.C:
			s.add(kindPath, nil)
		case <-s.wake:
			if s.flush() != nil {
				return
			}
		}
	}
}

// enqueue sends a packet by a stream, without waiting.
func (n *Network) enqueue(s *packetStream, kind byte, payload []byte) {
	if !s.add(kind, payload) {
		n.rejects.add(CauseUnsent, s.conn.RemoteAddr(), "the stream for packets is full")
		return
	}
	n.count(func(s *Stats) { s.ByStreamSent++ })
}

// servePackets takes packets from a peer that this node doesn't answer by
// datagrams, as far as the peer can tell. The first message says where it is.
func (n *Network) servePackets(conn *streamConn) {
	receive := func(limit int) ([]byte, error) {
		_ = conn.SetReadDeadline(time.Now().Add(n.cfg.StreamTimeout)) // if that fails, so does the read
		return conn.readMessage(limit)
	}
	first, err := receive(256)
	if err != nil || len(first) < 1 {
		return
	}
	from, err := netip.ParseAddrPort(string(first[1:]))
	if err != nil || !allowed(n.cfg.AllowedCIDRs, from.Addr()) {
		n.rejects.add(CauseSource, conn.RemoteAddr(), "the address of a stream for packets")
		return
	}
	n.paths.doubt(from) // what doesn't go one way may not go the other
	for {
		packet, err := receive(MaxPacketSize + 1)
		if err != nil || len(packet) < 1 {
			return
		}
		n.count(func(s *Stats) { s.ByStreamReceived++ })
		n.deliver(from, packet[0], packet[1:])
	}
}
