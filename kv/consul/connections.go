package consul

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/tlspeer"
)

const (
	// idleTime is how long an unused connection is kept.
	idleTime = 90 * time.Second

	// maxHead is the size of the largest head of an answer.
	maxHead = 1 << 20

	// keptBuffer is the size of the largest request whose memory is kept with
	// the connection.
	keptBuffer = 64 << 10

	// lastWords is how long to wait for the answer of a server that has stopped
	// reading the request, such as one to which it is too large.
	lastWords = time.Second
)

// connections is an http.RoundTripper to one server that writes a request and
// reads its answer on the goroutine of the caller. The two goroutines that
// http.Transport has for each connection, and what it takes to wake them, cost
// as much again as the rest of a client: a write to a server close by takes a
// fifth longer. Writing HTTP/1.1 and reading it is left to net/http.
//
// A request is never sent twice, unless it is a GET whose connection had been
// used before and broke.
type connections struct {
	dial  func(ctx context.Context) (conn, raw net.Conn, err error) // raw is conn without TLS
	limit time.Duration                                             // until the head of an answer is here
	max   int                                                       // number of idle ones

	mu      sync.Mutex
	idle    []*connection // the one used last at the end
	sweeper *time.Timer   // closes those that were not used; nil: none were idle yet
	closed  bool
}

// connection is used by one request at a time.
type connection struct {
	conn, raw net.Conn
	source    io.LimitedReader // of conn
	in        *bufio.Reader    // of source
	out       bytes.Buffer
	since     time.Time // it is idle

	mu   sync.Mutex
	over bool // the ctx of its request is done; it is never used again
}

var longAgo = time.Unix(1, 0)

// expire ends the request under way.
func (c *connection) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	_ = c.conn.SetDeadline(longAgo)
}

// setDeadline limits what is read and written, unless the request is over.
func (c *connection) setDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return os.ErrDeadlineExceeded
	}
	return c.conn.SetDeadline(t)
}

// RoundTrip implements http.RoundTripper.
func (p *connections) RoundTrip(req *http.Request) (*http.Response, error) {
	for {
		c, used, err := p.get(req.Context())
		if err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
		resp, err := p.exchange(c, req)
		switch {
		case err == nil:
			return resp, nil
		case req.Context().Err() != nil:
			return nil, req.Context().Err()
		case !used || req.Method != http.MethodGet || errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		}
	}
}

// get returns a connection; used says that it was used before.
func (p *connections) get(ctx context.Context) (c *connection, used bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	for {
		if c = p.pop(); c == nil {
			break
		}
		if quiet(c.raw) {
			return c, true, nil
		}
		_ = c.conn.Close()
	}
	conn, raw, err := p.dial(ctx)
	if err != nil {
		return nil, false, err
	}
	c = &connection{conn: conn, raw: raw, source: io.LimitedReader{R: conn}}
	c.in = bufio.NewReader(&c.source)
	return c, false, nil
}

func (p *connections) pop() *connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	c := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return c
}

// put takes back a connection whose request is over.
func (p *connections) put(c *connection) {
	if c.out.Cap() > keptBuffer {
		c.out = bytes.Buffer{}
	}
	c.since = time.Now()
	if !p.push(c) {
		_ = c.conn.Close()
	}
}

func (p *connections) push(c *connection) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= p.max {
		return false
	}
	p.idle = append(p.idle, c)
	if len(p.idle) == 1 {
		if p.sweeper == nil {
			p.sweeper = time.AfterFunc(idleTime, p.sweep)
		} else {
			p.sweeper.Reset(idleTime)
		}
	}
	return true
}

// sweep closes the connections that have not been used for idleTime.
func (p *connections) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].since) >= idleTime {
		_ = p.idle[n].conn.Close()
		n++
	}
	p.idle = append(p.idle[:0:0], p.idle[n:]...)
	if len(p.idle) > 0 {
		p.sweeper.Reset(max(idleTime-time.Since(p.idle[0].since), time.Second))
	}
}

// close closes the idle connections. Those in use end with their requests.
func (p *connections) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	for _, c := range p.idle {
		_ = c.conn.Close()
	}
	p.idle = nil
}

// exchange makes one request on c, which it hands back or closes.
func (p *connections) exchange(c *connection, req *http.Request) (*http.Response, error) {
	c.out.Reset()
	if err := req.Write(&c.out); err != nil { // which closes the request's body
		p.put(c) // nothing was sent
		return nil, err
	}
	now := time.Now()
	ends, bounded := req.Context().Deadline()
	bounded = bounded && ends.Before(now.Add(p.limit)) // and needs no other limit
	var err error
	if !bounded {
		err = c.setDeadline(now.Add(p.limit))
	}
	stop := context.AfterFunc(req.Context(), c.expire)
	var resp *http.Response
	if err == nil {
		attemptOf(req.Context()).sent.Store(true)
		resp, err = c.send(req)
	}
	if err == nil && !bounded {
		err = c.setDeadline(time.Time{})
	}
	if err != nil {
		stop()
		_ = c.conn.Close()
		return nil, err
	}
	b := &body{Reader: resp.Body, from: p, conn: c, stop: stop, ctx: req.Context(), last: resp.Close}
	if resp.Body == http.NoBody {
		b.finish(true)
	} else {
		resp.Body = b
	}
	return resp, nil
}

// send writes the request and reads the head of its answer.
func (c *connection) send(req *http.Request) (*http.Response, error) {
	_, unsent := c.conn.Write(c.out.Bytes())
	if unsent != nil {
		if errors.Is(unsent, os.ErrDeadlineExceeded) || c.setDeadline(time.Now().Add(lastWords)) != nil {
			return nil, unsent
		}
	}
	resp, err := c.head(req)
	switch {
	case unsent != nil && tlspeer.Refused(err): // which is why it reads no more
		return nil, err
	case unsent != nil && (err != nil || resp.StatusCode < http.StatusBadRequest):
		return nil, unsent
	case unsent != nil:
		resp.Close = true
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return nil, errNoAnswer
	}
	return resp, err
}

// errNoAnswer: the connection was closed where an answer should have come.
var errNoAnswer = errors.New("the server closed the connection without an answer")

// head reads up to the body of the answer.
func (c *connection) head(req *http.Request) (*http.Response, error) {
	c.source.N = maxHead
	for {
		resp, err := http.ReadResponse(c.in, req)
		if err != nil || resp.StatusCode >= http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols {
			c.source.N = math.MaxInt64
			return resp, err
		}
	}
}

// body is that of an answer. At its end the connection is free again.
type body struct {
	io.Reader
	from *connections
	conn *connection // nil: it is over
	stop func() bool // the end of the request's ctx no longer matters
	ctx  context.Context
	last bool // there will be no other answer on the connection
}

func (b *body) Read(to []byte) (int, error) {
	if b.conn == nil {
		return 0, io.EOF
	}
	n, err := b.Reader.Read(to)
	if err != nil {
		b.finish(errors.Is(err, io.EOF))
		if !errors.Is(err, io.EOF) && b.ctx.Err() != nil {
			err = b.ctx.Err()
		}
	}
	return n, err
}

// Close closes the connection, too, if the body was not read to its end.
func (b *body) Close() error {
	if b.conn != nil {
		b.finish(false)
	}
	return nil
}

// finish gives the connection back if the whole answer was read.
func (b *body) finish(whole bool) {
	c := b.conn
	b.conn = nil
	if b.stop() && whole && !b.last && c.in.Buffered() == 0 {
		b.from.put(c)
		return
	}
	_ = c.conn.Close()
}
