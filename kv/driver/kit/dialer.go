package kit

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Dialer makes connections to one of several servers, for protocols in which the
// client speaks first: see [Conn].
type Dialer struct {
	// Timeout bounds one attempt to connect to one server.
	Timeout time.Duration

	// Connected, unless nil, is called when there is a new connection, before it
	// is used: who answers on it may have been set back, see History.Connected.
	Connected func()

	last atomic.Int64 // index of the address that worked last
}

// Dial connects to the first of addresses that can be reached, beginning with
// the one that worked last, or fails as the last of them did. All addresses of
// a name are tried, and all targets of a service record, in its order.
func (d *Dialer) Dial(ctx context.Context, addresses []Address) (*Conn, error) {
	first := int(d.last.Load())
	var failed error
	for i := range addresses {
		at := (first + i) % len(addresses)
		conn, err := d.DialOne(ctx, addresses[at])
		if err == nil {
			d.last.Store(int64(at))
			return conn, nil
		}
		failed = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// DialOne connects to one address.
func (d *Dialer) DialOne(ctx context.Context, a Address) (*Conn, error) {
	network, targets, err := a.Targets(ctx)
	dialer := net.Dialer{Timeout: d.Timeout}
	for _, target := range targets {
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, network, target); err == nil {
			if d.Connected != nil {
				d.Connected()
			}
			return &Conn{Conn: conn, target: target, spoken: make(chan struct{})}, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// Targets returns what an address stands for, to be dialed: those of a service
// record, which is looked up, with the lowest priority first; of others its own.
func (a Address) Targets(ctx context.Context) (network string, targets []string, err error) {
	if a.Network != "srv" {
		return a.Network, []string{a.Target}, nil
	}
	_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", a.Target)
	for _, r := range records {
		targets = append(targets, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
	}
	if err == nil && len(targets) == 0 {
		err = &net.DNSError{Err: "no service records", Name: a.Target, IsNotFound: true}
	}
	return "tcp", targets, err
}

// Conn is a connection that a Dialer made.
//
// A server that doesn't want the connection may say so before it was asked
// anything. Such words are kept until something was sent, so that who waits for
// an answer gets them as one.
type Conn struct {
	net.Conn
	target string        // host:port, or a path
	spoken chan struct{} // closed by the first Write, and by Close
	once   sync.Once
}

// Host returns the name of the server, for its certificate.
func (c *Conn) Host() string {
	host, _, err := net.SplitHostPort(c.target)
	if err != nil {
		return "localhost" // a socket's
	}
	return host
}

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	<-c.spoken
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	c.once.Do(func() { close(c.spoken) })
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.once.Do(func() { close(c.spoken) })
	return c.Conn.Close()
}
