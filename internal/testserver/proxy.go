package testserver

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Proxy stands between a client and one server, and misbehaves as a network does when told to. Its methods may be
// called concurrently.
//
// It is our own beside toxiproxy, the known one, since that can't drop responses and then mend the link without handing
// on a stream with a hole in it, nor forget connections without a word.
type Proxy struct {
	target string
	ports  *portBlock
	wg     sync.WaitGroup // of every goroutine below

	accepted, toServer, toClient, swallowed atomic.Int64

	mu       sync.Mutex
	mode     proxyMode
	rate     int           // of responses, in bytes per second; 0: no limit
	free     time.Time     // when the line has carried what it was given
	changed  chan struct{} // closed, and replaced, when mode changes
	listener net.Listener  // nil while connections are refused
	conns    map[*proxyConn]struct{}
	closed   bool
}

type proxyMode int

const (
	proxyPass proxyMode = iota
	proxySwallow
	proxyHang
	proxyCut
)

// ProxyStats counts what happened since the proxy was started.
type ProxyStats struct {
	Accepted  int64 // connections
	Open      int64 // connections of clients that have not ended yet
	ToServer  int64 // bytes handed on
	ToClient  int64 // bytes handed on
	Swallowed int64 // bytes of responses dropped
}

// NewProxy starts a proxy in front of an address ("127.0.0.1:2379"); it passes everything.
func NewProxy(target string) (*Proxy, error) {
	ports, listener, err := listenReserved()
	if err != nil {
		return nil, fmt.Errorf("testserver: proxy: %w", err)
	}
	p := &Proxy{target: target, ports: ports, changed: make(chan struct{}), conns: map[*proxyConn]struct{}{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accept(listener)
	return p, nil
}

// Addr returns the address ("127.0.0.1:port") that clients use instead of the server's. It never changes.
func (p *Proxy) Addr() string { return address(p.ports.ports[0]) }

// Stats returns the counts so far.
func (p *Proxy) Stats() ProxyStats {
	p.mu.Lock()
	open := len(p.conns)
	p.mu.Unlock()
	return ProxyStats{
		Accepted: p.accepted.Load(), Open: int64(open),
		ToServer: p.toServer.Load(), ToClient: p.toClient.Load(), Swallowed: p.swallowed.Load(),
	}
}

// SwallowResponses hands on requests and drops whatever the server says from now on, the end of a connection
// included: the client can't tell it from an answer that is late.
func (p *Proxy) SwallowResponses() { p.set(proxySwallow) }

// Hang goes on accepting connections and hands on nothing in either direction; Heal hands on what was held back.
func (p *Proxy) Hang() { p.set(proxyHang) }

// HalfOpen forgets every connection as a router that lost its state does: the server's side ends, and the client is not
// told, whatever it says, not even by Heal. New connections work.
func (p *Proxy) HalfOpen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.forget()
	}
}

// Throttle has the responses on all connections together take their time, as on a line of so many bytes per second. 0 ends
// that.
func (p *Proxy) Throttle(rate int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate, p.free = rate, time.Time{}
}

// carry waits until the line has carried n more bytes, or c is closed.
func (p *Proxy) carry(c *proxyConn, n int) {
	p.mu.Lock()
	if p.rate == 0 {
		p.mu.Unlock()
		return
	}
	if now := time.Now(); p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	pause := time.Until(p.free)
	p.mu.Unlock()
	select {
	case <-time.After(pause):
	case <-c.done:
	}
}

// Reset ends every connection by a reset (RST), in both directions. New connections work.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.reset()
	}
}

// Cut closes every connection and refuses new ones.
func (p *Proxy) Cut() { p.set(proxyCut) }

// Heal passes everything again. Connections that lost bytes are closed, as nothing true can be said on them any more.
func (p *Proxy) Heal() error {
	p.set(proxyPass)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closed {
		return nil
	}
	listener, err := net.Listen("tcp", p.Addr())
	// A program that is being started has the listener that was closed until it runs.
	for end := time.Now().Add(10 * time.Second); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(end); listener, err = net.Listen("tcp", p.Addr()) {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("testserver: proxy: %w", err)
	}
	p.accept(listener)
	return nil
}

// Close ends the proxy and its connections.
func (p *Proxy) Close() {
	p.set(proxyCut)
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		p.ports.release()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) set(mode proxyMode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = mode
	close(p.changed)
	p.changed = make(chan struct{})
	if mode == proxyCut && p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	for c := range p.conns {
		if mode == proxyCut || mode == proxyPass && c.lossy {
			c.close()
		}
	}
}

// accept is called with mu held.
func (p *Proxy) accept(l net.Listener) {
	p.listener = l
	p.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			p.accepted.Add(1)
			p.wg.Go(func() { p.serve(conn) })
		}
	})
}

// A proxyConn is a client's connection and the one to the server that belongs to it.
type proxyConn struct {
	client, server net.Conn // server is nil until dialled
	once           sync.Once
	done           chan struct{} // closed by close
	lossy          bool          // bytes were dropped; guarded by Proxy.mu
	forgotten      chan struct{} // closed by forget, with Proxy.mu held
}

// reset is close as a crash of either end looks to the other. Its caller holds Proxy.mu or knows that server is set.
func (c *proxyConn) reset() {
	for _, conn := range []net.Conn{c.client, c.server} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	c.close()
}

// end is close, or reset if that is how one of the ends came to its own.
func (c *proxyConn) end(cause error) {
	if errors.Is(cause, syscall.ECONNRESET) {
		c.reset()
	} else {
		c.close()
	}
}

func (c *proxyConn) forget() {
	if c.server == nil || c.isForgotten() {
		return
	}
	close(c.forgotten)
	_ = c.server.Close()
}

func (c *proxyConn) isForgotten() bool {
	select {
	case <-c.forgotten:
		return true
	default:
		return false
	}
}

func (c *proxyConn) close() {
	c.once.Do(func() {
		close(c.done)
		_ = c.client.Close()
		if c.server != nil {
			_ = c.server.Close()
		}
	})
}

func (p *Proxy) serve(client net.Conn) {
	c := &proxyConn{client: client, done: make(chan struct{}), forgotten: make(chan struct{})}
	defer c.close()
	if !p.add(c) {
		return
	}
	defer p.remove(c)
	if p.await(c, proxyPass, proxySwallow) != nil {
		return
	}
	server, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	if !p.attach(c, server) {
		_ = server.Close()
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.requests(c) })
	pumps.Go(func() { p.responses(c) })
	pumps.Wait()
}

func (p *Proxy) add(c *proxyConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mode == proxyCut {
		return false // accepted just before
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) remove(c *proxyConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// attach makes the server's connection part of c, unless c was closed meanwhile.
func (p *Proxy) attach(c *proxyConn, server net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-c.done:
		return false
	default:
		c.server = server
		return true
	}
}

// await waits until the proxy is in one of the modes; it fails if c is closed before.
func (p *Proxy) await(c *proxyConn, modes ...proxyMode) error {
	for {
		p.mu.Lock()
		mode, changed := p.mode, p.changed
		p.mu.Unlock()
		if slices.Contains(modes, mode) {
			return nil
		}
		select {
		case <-changed:
		case <-c.done:
			return net.ErrClosed
		}
	}
}

// requests hands on what the client says.
func (p *Proxy) requests(c *proxyConn) {
	defer c.close()
	buf := make([]byte, 32<<10)
	for {
		n, err := c.client.Read(buf)
		if n > 0 {
			if p.await(c, proxyPass, proxySwallow) != nil {
				return
			}
			if _, err := c.server.Write(buf[:n]); err == nil {
				p.toServer.Add(int64(n))
			} else if !c.isForgotten() {
				return
			}
		}
		if err != nil {
			if !c.isForgotten() {
				_ = p.await(c, proxyPass, proxySwallow) // a client's end is news to the server as its bytes are
			}
			c.end(err)
			return
		}
	}
}

// responses hands on what the server says, or drops it.
func (p *Proxy) responses(c *proxyConn) {
	defer c.close()
	buf := make([]byte, 32<<10)
	for {
		n, err := c.server.Read(buf)
		if n > 0 {
			p.carry(c, n)
			if p.await(c, proxyPass, proxySwallow) != nil {
				return
			}
			if p.drops(c) {
				p.swallowed.Add(int64(n))
			} else if _, err := c.client.Write(buf[:n]); err != nil {
				return
			} else {
				p.toClient.Add(int64(n))
			}
		}
		if err != nil {
			if c.isForgotten() {
				<-c.done
			}
			_ = p.await(c, proxyPass)
			c.end(err)
			return
		}
	}
}

// drops tells whether a response on c is to be dropped, and notes on c that it was.
func (p *Proxy) drops(c *proxyConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.lossy = c.lossy || p.mode == proxySwallow
	return c.lossy
}
