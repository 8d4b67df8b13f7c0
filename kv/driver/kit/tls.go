package kit

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"time"
)

// refusalTimeout is how long a new connection that can't be written to is listened to.
const refusalTimeout = 100 * time.Millisecond

// HearRefusal returns conn, a connection whose handshake is done, such that the
// server's refusal of the client's certificate is not lost: under TLS 1.3 it
// comes only after the client's side of the handshake, as the end of the first
// read, while HTTP and gRPC may already fail to write and wait for no reason.
// heard, if not nil, is called with how the first read ended.
func HearRefusal(conn net.Conn, heard func(error)) net.Conn {
	return &listening{Conn: conn, report: heard, heard: make(chan struct{})}
}

type listening struct {
	net.Conn
	report func(error)
	first  sync.Once
	heard  chan struct{} // closed by the first read
	err    error         // its error; read after heard is closed
}

func (c *listening) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.first.Do(func() {
		if c.report != nil {
			c.report(err)
		}
		c.err = err
		close(c.heard)
	})
	return n, err
}

// Write fails with the server's refusal, if it closed the connection for one.
func (c *listening) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	select {
	case <-c.heard:
		if RefusedCertificate(c.err) {
			err = c.err
		}
	case <-time.After(refusalTimeout):
	}
	return n, err
}

// RefusedCertificate reports whether err is our refusal of the server's certificate or,
// as a TLS alert, the server's of ours. The server never reads a request that
// was sent in the meantime.
func RefusedCertificate(err error) bool {
	var ours *tls.CertificateVerificationError
	if errors.As(err, &ours) {
		return true
	}
	var alert *net.OpError
	return errors.As(err, &alert) && alert.Op == "remote error" && strings.Contains(alert.Err.Error(), "certificate")
}

// Handshake makes a TLS connection over raw, which it closes if it can't within
// limit.
func Handshake(ctx context.Context, raw net.Conn, cfg *tls.Config, limit time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return HearRefusal(conn, nil), nil
}
