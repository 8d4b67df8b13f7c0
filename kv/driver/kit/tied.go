package kit

import (
	"context"
	"net"
)

// Tied returns conn, which ends with ctx at the latest: for a library that may be
// blocked on it when its user closes.
func Tied(ctx context.Context, conn net.Conn) net.Conn {
	return &tied{conn, context.AfterFunc(ctx, func() { _ = conn.Close() })}
}

type tied struct {
	net.Conn
	stop func() bool // or ctx would keep what has ended
}

// Close implements net.Conn.
func (t *tied) Close() error {
	t.stop()
	return t.Conn.Close()
}
