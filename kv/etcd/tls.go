package etcd

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver/kit"
)

// handshakes are transport credentials that tell of each connection, secure it
// with certificates as they are now, and remember at which endpoints one side
// refused the other's. gRPC reports such a failure as text and tries again for
// ever; trying again cures neither.
type handshakes struct {
	credentials.TransportCredentials // without certificates, or plain
	tls                              *config.Renewing
	host                             func(endpoint string) string
	connected                        func()
	refused                          *refusedPeers
}

func newHandshakes(tls *config.Renewing, s *store) handshakes {
	h := handshakes{insecure.NewCredentials(), tls, s.discovery.host, s.history.Connected, s.refused}
	if tls != nil {
		h.TransportCredentials = credentials.NewTLS(nil)
	}
	return h
}

func (h handshakes) Clone() credentials.TransportCredentials {
	h.TransportCredentials = h.TransportCredentials.Clone()
	return h
}

func (h handshakes) ClientHandshake(ctx context.Context, endpoint string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	h.connected()
	if h.tls == nil {
		return h.TransportCredentials.ClientHandshake(ctx, endpoint, raw)
	}
	host := h.host(endpoint)
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	cfg := h.tls.For(host)
	// gRPC puts the authority over the ServerName of the tls.Config.
	conn, info, err := credentials.NewTLS(cfg).ClientHandshake(ctx, cfg.ServerName, raw)
	if err != nil {
		h.refused.note(endpoint, err)
		return conn, info, err
	}
	return kit.HearRefusal(conn, func(err error) { h.refused.note(endpoint, err) }), info, nil
}

// refusedPeers holds, by endpoint, the last refusal, until the endpoint is
// heard from again. A nil *refusedPeers, without TLS, holds none.
type refusedPeers struct {
	endpoints func() []string

	mu sync.Mutex
	by map[string]error
}

func (r *refusedPeers) note(endpoint string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case kit.RefusedCertificate(err):
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
	if len(r.by) < len(r.endpoints()) {
		return nil
	}
	for endpoint, err := range r.by {
		if strings.Contains(text, err.Error()) {
			return fmt.Errorf("%s: %w", endpoint, err)
		}
	}
	return nil
}
