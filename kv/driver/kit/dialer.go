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
	dialer := net.Dialer{Timeout: d.Timeout}
	if a.Network != "srv" {
		conn, err := dialer.DialContext(ctx, a.Network, a.Target)
		return d.wrap(conn, a.Target, err)
	}
	targets, err := LookupSRV(ctx, a.Target)
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		var conn net.Conn
		if conn, err = dialer.DialContext(ctx, "tcp", target); err == nil || ctx.Err() != nil {
			return d.wrap(conn, target, err)
		}
	}
	return nil, err
}

// LookupSRV returns the targets of a service record as host:port, those of the
// lowest priority first.
func LookupSRV(ctx context.Context, name string) ([]string, error) {
	_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", name)
	if err != nil {
		return nil, err
	}
	targets := make([]string, len(records))
	for i, r := range records {
		targets[i] = net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port)))
	}
	if len(targets) == 0 {
		return nil, &net.DNSError{Err: "no service records", Name: name, IsNotFound: true}
	}
	return targets, nil
}

func (d *Dialer) wrap(conn net.Conn, target string, err error) (*Conn, error) {
	if err != nil {
		return nil, err
	}
	if d.Connected != nil {
		d.Connected()
	}
	return &Conn{Conn: conn, target: target, spoken: make(chan struct{})}, nil
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
