package network

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// pipeBuffer is how many bytes are under way in one direction of a stream.
const pipeBuffer = 256 << 10

// fabricConn is one end of a stream in a Fabric: buffered, as TCP, which
// net.Pipe is not.
type fabricConn struct {
	fabric    *Fabric
	from, to  netip.AddrPort
	in, out   *pipeHalf
	done      chan struct{}
	closeOnce sync.Once
}

// pipeHalf is one direction.
type pipeHalf struct {
	mu     sync.Mutex
	cond   *sync.Cond
	bytes  []byte
	ended  bool // by the writer: what is there can still be read
	broken bool // by the reader

	readBy, writeBy deadline
}

// deadline wakes the waiters of a pipeHalf when it passes.
type deadline struct {
	at      time.Time
	timer   *time.Timer
	expired chan struct{} // closed when it passes; replaced when it is set again
}

func newFabricPipe(f *Fabric, from, to netip.AddrPort) (near, far *fabricConn) {
	there, back := newPipeHalf(), newPipeHalf()
	near = &fabricConn{fabric: f, from: from, to: to, in: back, out: there, done: make(chan struct{})}
	far = &fabricConn{fabric: f, from: to, to: from, in: there, out: back, done: make(chan struct{})}
	return near, far
}

func newPipeHalf() *pipeHalf {
	h := &pipeHalf{}
	h.cond = sync.NewCond(&h.mu)
	h.readBy.expired, h.writeBy.expired = make(chan struct{}), make(chan struct{})
	return h
}

// set is called with h.mu held.
func (h *pipeHalf) set(d *deadline, at time.Time) {
	if d.timer != nil {
		d.timer.Stop()
	}
	select {
	case <-d.expired:
		d.expired = make(chan struct{})
	default:
	}
	d.at, d.timer = at, nil
	if at.IsZero() {
		return
	}
	expired := d.expired
	d.timer = time.AfterFunc(time.Until(at), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if d.expired == expired {
			closeOnce(expired)
			h.cond.Broadcast()
		}
	})
}

func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (c *fabricConn) Read(b []byte) (int, error) {
	n, err := c.read(b)
	c.fabric.awaitThaw(c.from, c.done)
	return n, err
}

func (c *fabricConn) read(b []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.broken:
			return 0, net.ErrClosed
		case h.readBy.passed():
			return 0, os.ErrDeadlineExceeded
		case len(h.bytes) > 0:
			n := copy(b, h.bytes)
			h.bytes = h.bytes[n:]
			h.cond.Broadcast()
			return n, nil
		case h.ended:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (c *fabricConn) Write(b []byte) (written int, err error) {
	c.fabric.awaitThaw(c.from, c.done)
	h := c.out
	h.mu.Lock()
	expired := h.writeBy.expired
	passed := h.writeBy.passed()
	h.mu.Unlock()
	if passed {
		return 0, os.ErrDeadlineExceeded
	}
	if err := c.fabric.await(c.from, c.to, len(b), expired, c.done); errors.Is(err, errUnreachable) {
		return 0, os.ErrDeadlineExceeded
	} else if err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(b) > 0 {
		switch {
		case h.ended:
			return written, net.ErrClosed
		case h.broken:
			return written, io.ErrClosedPipe
		case h.writeBy.passed():
			return written, os.ErrDeadlineExceeded
		}
		n := min(len(b), pipeBuffer-len(h.bytes))
		if n == 0 {
			h.cond.Wait()
			continue
		}
		h.bytes = append(h.bytes, b[:n]...)
		b, written = b[n:], written+n
		h.cond.Broadcast()
	}
	return written, nil
}

func (c *fabricConn) Close() error {
	c.closeOnce.Do(func() {
		close(c.done)
		for _, h := range []*pipeHalf{c.in, c.out} {
			h.mu.Lock()
			if h == c.in {
				h.broken = true
				h.set(&h.readBy, time.Time{})
			} else {
				h.ended = true
				h.set(&h.writeBy, time.Time{})
			}
			h.cond.Broadcast()
			h.mu.Unlock()
		}
	})
	return nil
}

func (c *fabricConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.from) }
func (c *fabricConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.to) }

func (c *fabricConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *fabricConn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(c.in, &c.in.readBy, t)
}

func (c *fabricConn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(c.out, &c.out.writeBy, t)
}

func (c *fabricConn) setDeadline(h *pipeHalf, d *deadline, t time.Time) error {
	select {
	case <-c.done:
		return net.ErrClosed
	default:
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(d, t)
	h.cond.Broadcast()
	return nil
}
