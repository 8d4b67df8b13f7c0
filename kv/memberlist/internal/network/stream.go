package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
)

// helloTimeout is how long a connection may take to introduce itself.
const helloTimeout = 5 * time.Second

// Dial opens a stream to a peer, whose Handler gets it by HandleStream. ctx and
// Config.StreamTimeout bound Dial alone; the caller sets deadlines for what it reads
// and writes, and closes the stream. Close of the network does too.
func (n *Network) Dial(ctx context.Context, to Peer) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.StreamTimeout)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	conn, err := n.dial(ctx, to.Addr, kindData)
	if err != nil {
		if n.ctx.Err() != nil {
			err = ErrClosed
		}
		return nil, fmt.Errorf("open a stream to %s at %s: %w", to.Name, to.Addr, err)
	}
	return conn, nil
}

func (n *Network) dial(ctx context.Context, to netip.AddrPort, kind byte) (*streamConn, error) {
	if !allowed(n.cfg.AllowedCIDRs, to.Addr()) {
		return nil, fmt.Errorf("address %s is not allowed", to)
	}
	raw, err := n.wire.dial(ctx, to)
	if err != nil {
		return nil, err
	}
	conn := n.tracked(raw)
	if !n.admission.admit(conn, true) {
		_ = conn.Close()
		return nil, ErrClosed
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	secured, err := n.ring.Load().openStream(conn, kind, n.self.Instance)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return nil, err
	}
	n.count(func(s *Stats) { s.StreamsOpened++ })
	return n.stream(secured, conn), nil
}

// trackedConn is a connection that Close of the network closes.
type trackedConn struct {
	net.Conn
	once sync.Once
	n    *Network
}

func (n *Network) tracked(conn net.Conn) *trackedConn {
	return &trackedConn{Conn: conn, n: n}
}

func (c *trackedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.count(func(s *Stats) { s.StreamBytes += uint64(n) })
	return n, err
}

func (c *trackedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.count(func(s *Stats) { s.StreamBytes += uint64(n) })
	return n, err
}

func (c *trackedConn) Close() error {
	c.once.Do(func() { c.n.admission.leave(c) })
	return c.Conn.Close()
}

// stream makes a stream of what has introduced itself over raw.
func (n *Network) stream(secured net.Conn, raw *trackedConn) *streamConn {
	conn := newStreamConn(secured, raw)
	conn.bad = func(err error) { n.rejects.add(CauseRecord, raw.RemoteAddr(), err.Error()) }
	_ = conn.SetDeadline(time.Time{})
	return conn
}

// accept accepts streams until the listener is closed.
func (n *Network) accept(l net.Listener) {
	for {
		raw, err := l.Accept()
		if n.ctx.Err() != nil {
			if err == nil {
				_ = raw.Close()
			}
			return
		}
		if err != nil { // such as too many open files
			n.rejects.add(CauseConnections, "", err.Error())
			_ = wait.For(n.ctx, 10*time.Millisecond)
			continue
		}
		conn := n.tracked(raw)
		evicted, ok := n.admission.enter(conn)
		if evicted != nil {
			n.rejects.add(CauseConnections, evicted.RemoteAddr(), "closed in favour of a newer one")
		}
		if !ok {
			_ = conn.Close()
			continue
		}
		n.wg.Go(func() { n.serve(conn) })
	}
}

// serve hears who opened a stream and serves it.
func (n *Network) serve(conn *trackedConn) {
	from, ok := remote(conn)
	if !ok || !allowed(n.cfg.AllowedCIDRs, from.Addr()) {
		n.rejects.add(CauseSource, conn.RemoteAddr(), "")
		_ = conn.Close()
		return
	}
	_ = conn.SetDeadline(time.Now().Add(helloTimeout))
	secured, kind, why, detail := n.ring.Load().acceptStream(conn, n.self.Instance)
	if why != "" {
		if why != causeSelf && n.ctx.Err() == nil { // else Close has closed it
			n.rejects.add(why, from, detail)
		}
		_ = conn.Close()
		return
	}
	if !n.admission.admit(conn, false) {
		n.rejects.add(CauseConnections, from, "")
		_ = conn.Close()
		return
	}
	n.count(func(s *Stats) { s.StreamsAccepted++ })
	stream := n.stream(secured, conn)
	if kind == kindMembership {
		n.transport.accept(stream) // memberlist closes it
		return
	}
	defer func() { _ = stream.Close() }()
	if kind == kindPackets {
		n.servePackets(stream)
		return
	}
	n.handler.HandleStream(n.ctx, stream)
}

func remote(conn net.Conn) (netip.AddrPort, bool) {
	addr, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := addr.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), true
}
