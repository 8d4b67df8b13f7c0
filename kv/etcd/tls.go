package etcd

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// handshakes are transport credentials that remember at which endpoints one
// side refused the other's certificate. gRPC reports such a failure as text
// and tries again for ever; trying again cures neither.
type handshakes struct {
	credentials.TransportCredentials
	serverName string // empty: the endpoint's host
	refused    *refusedPeers
}

func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.serverName, h.refused}
}

func (h handshakes) ClientHandshake(ctx context.Context, endpoint string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	// gRPC puts the endpoint over the ServerName of the tls.Config.
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, cmp.Or(h.serverName, endpoint), raw)
	if err != nil {
		h.refused.note(endpoint, err)
		return conn, info, err
	}
	note := func(err error) { h.refused.note(endpoint, err) }
	return &newConn{Conn: conn, note: note, heard: make(chan struct{})}, info, nil
}

// newConn reports how its first read ended: under TLS 1.3 a server refuses
// the client's certificate only after the client's side of the handshake is
// done.
type newConn struct {
	net.Conn
	note  func(error)   // nil after the first read; one goroutine reads
	heard chan struct{} // closed by the first read
	err   error         // its error; read after heard is closed
}

func (c *newConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.note != nil {
		c.note(err)
		c.note, c.err = nil, err
		close(c.heard)
	}
	return n, err
}

// lastWord is how long a new connection that can't be written to is listened to.
const lastWord = 100 * time.Millisecond

// Write fails if the server closed the connection, and its reason is then
// still to be read. gRPC would not wait for it.
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

// refusedPeers holds, by endpoint, the last refusal, until the endpoint is
// heard from again. A nil *refusedPeers, without TLS, holds none.
type refusedPeers struct {
	endpoints int // how many there are

	mu sync.Mutex
	by map[string]error
}

func (r *refusedPeers) note(endpoint string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case certificateRefused(err):
		r.by[endpoint] = err
	case err == nil:
		delete(r.by, endpoint)
	}
}

// behind returns the refusal that the text of a failed call tells of, if every
// endpoint's last word was one: as long as one of them is merely out of reach,
// there is something to wait for.
func (r *refusedPeers) behind(text string) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.by) < r.endpoints {
		return nil
	}
	for endpoint, err := range r.by {
		if strings.Contains(text, err.Error()) {
			return fmt.Errorf("%s: %w", endpoint, err)
		}
	}
	return nil
}

// certificateRefused reports whether err is our refusal of the server's
// certificate or, as a TLS alert, the server's of ours.
func certificateRefused(err error) bool {
	var ours *tls.CertificateVerificationError
	if errors.As(err, &ours) {
		return true
	}
	var alert *net.OpError
	return errors.As(err, &alert) && alert.Op == "remote error" && strings.Contains(alert.Err.Error(), "certificate")
}
