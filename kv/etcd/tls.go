package etcd

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc/credentials"

	"github.com/polykv/polykv/internal/tlspeer"
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
	return tlspeer.Listen(conn, func(err error) { h.refused.note(endpoint, err) }), info, nil
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
	case tlspeer.Refused(err):
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
