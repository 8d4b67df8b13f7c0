package consul

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"time"
)

// dialTLS returns a function for http.Transport that makes TLS connections
// over those of dial.
func dialTLS(cfg *tls.Config, host string, limit time.Duration, dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(host)
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		conn := tls.Client(raw, cfg)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return &newConn{Conn: conn, heard: make(chan struct{})}, nil
	}
}

// newConn keeps how its first read ended: under TLS 1.3 a server refuses the
// client's certificate only after the client's side of the handshake is done.
type newConn struct {
	net.Conn
	first sync.Once
	heard chan struct{} // closed by the first read
	err   error         // its error; read after heard is closed
}

func (c *newConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.first.Do(func() {
		c.err = err
		close(c.heard)
	})
	return n, err
}

// lastWord is how long a new connection that can't be written to is listened to.
const lastWord = 100 * time.Millisecond

// Write fails with the server's refusal, if it closed the connection for one.
// net/http would not wait for it.
func (c *newConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	select {
	case <-c.heard:
		if certificateRefused(c.err) {
			err = c.err
		}
	case <-time.After(lastWord):
	}
	return n, err
}

// certificateRefused reports whether err is our refusal of the server's
// certificate or, as a TLS alert, the server's of ours. The server never reads
// a request that was sent in the meantime.
func certificateRefused(err error) bool {
	var ours *tls.CertificateVerificationError
	if errors.As(err, &ours) {
		return true
	}
	var alert *net.OpError
	return errors.As(err, &alert) && alert.Op == "remote error" && strings.Contains(alert.Err.Error(), "certificate")
}
