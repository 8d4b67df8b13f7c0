package consul

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// expecting returns cfg with the name that the server's certificate must have:
// that of host, a host:port, unless cfg names another.
func expecting(cfg *tls.Config, host string) *tls.Config {
	cfg = cfg.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(host)
	}
	return cfg
}

// overTLS makes a TLS connection over raw, which it closes if it can't.
func overTLS(ctx context.Context, raw net.Conn, cfg *tls.Config, limit time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn := tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}
