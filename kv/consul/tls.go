package consul

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// overTLS makes a TLS connection over raw, which it closes if it can't.
func overTLS(ctx context.Context, raw net.Conn, cfg *tls.Config, host string, limit time.Duration) (net.Conn, error) {
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(host)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}
