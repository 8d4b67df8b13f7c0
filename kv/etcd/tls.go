package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc/credentials"
)

// handshakes are transport credentials that remember at which endpoints one
// side refused the other's certificate. gRPC reports such a failure as text
// and tries again for ever; trying again cures neither.
type handshakes struct {
	credentials.TransportCredentials
	refused *refusedPeers
}

func (h handshakes) Clone() credentials.TransportCredentials {
	return handshakes{h.TransportCredentials.Clone(), h.refused}
}

func (h handshakes) ClientHandshake(ctx context.Context, endpoint string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, endpoint, raw)
	if err != nil {
		h.refused.note(endpoint, err)
		return conn, info, err
	}
	return &firstRead{Conn: conn, note: func(err error) { h.refused.note(endpoint, err) }}, info, nil
}

// firstRead reports how the first read ended: under TLS 1.3 a server refuses
// the client's certificate only after the client's side of the handshake is
// done.
type firstRead struct {
	net.Conn
	note func(error) // nil after the first read; one goroutine reads
}

func (c *firstRead) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.note != nil {
		c.note(err)
		c.note = nil
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

// all returns a refusal if every endpoint's last word was one. As long as one
// of them is merely out of reach, there is something to wait for.
func (r *refusedPeers) all() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.by) < r.endpoints {
		return nil
	}
	for endpoint, err := range r.by {
		return fmt.Errorf("%s: %w", endpoint, err)
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
