package kit

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// counted counts how often it is closed.
type counted struct {
	net.Conn
	closed chan struct{}
}

func (c counted) Close() error {
	c.closed <- struct{}{}
	return c.Conn.Close()
}

// A connection ends with its ctx, and a ctx keeps none that has ended.
func TestTied(t *testing.T) {
	tie := func(ctx context.Context) (conn net.Conn, closed chan struct{}) {
		c, _ := net.Pipe()
		closed = make(chan struct{}, 2)
		return Tied(ctx, counted{c, closed}), closed
	}
	ctx, cancel := context.WithCancel(t.Context())
	blocked, closed := tie(ctx)
	ended, of := tie(ctx)
	if err := ended.Close(); err != nil || len(of) != 1 {
		t.Errorf("closed %d times: %v", len(of), err)
	}
	read := make(chan error)
	go func() {
		_, err := blocked.Read(make([]byte, 1))
		read <- err
	}()
	cancel()
	for name, done := range map[string]func() bool{
		"the read":  func() bool { return <-read == io.ErrClosedPipe }, //nolint:errorlint // the pipe's very own
		"the close": func() bool { <-closed; return len(of) == 1 },
	} {
		got := make(chan bool, 1)
		go func() { got <- done() }()
		select {
		case ok := <-got:
			if !ok {
				t.Errorf("%s is not as it should be", name)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s waits", name)
		}
	}
}
