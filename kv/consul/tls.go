package consul

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/polykv/polykv/internal/tlspeer"
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
		return tlspeer.Listen(conn, nil), nil
	}
}
