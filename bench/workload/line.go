package workload

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// line stands between a contestant and a server, counts what the server sends,
// and can be cut, which to a client is a server that restarts.
type line struct {
	server   string
	listener net.Listener
	received atomic.Int64
	work     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil while it is cut
}

func newLine(server string) (*line, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &line{server: server, listener: listener, conns: map[net.Conn]struct{}{}}
	l.work.Go(l.accept)
	return l, nil
}

func (l *line) addr() string { return l.listener.Addr().String() }

func (l *line) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.work.Go(func() { l.carry(client) })
	}
}

func (l *line) carry(client net.Conn) {
	defer l.drop(client)
	if !l.add(client) {
		return
	}
	server, err := net.Dial("tcp", l.server)
	if err != nil {
		return
	}
	defer l.drop(server)
	if !l.add(server) {
		return
	}
	l.work.Go(func() {
		_, _ = io.Copy(server, client)
		l.drop(server)
	})
	_, _ = io.Copy(io.MultiWriter(client, l), server)
}

// Write counts.
func (l *line) Write(p []byte) (int, error) {
	l.received.Add(int64(len(p)))
	return len(p), nil
}

func (l *line) add(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *line) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	_ = c.Close()
}

// cut ends all connections, and each new one until mend is called.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = map[net.Conn]struct{}{}
}

// interrupt cuts the line for a while.
func (l *line) interrupt(d time.Duration) {
	l.cut()
	time.Sleep(d)
	l.mend()
}

// close ends a line; the zero one leads nowhere.
func (l *line) close() {
	if l.listener != nil {
		_ = l.listener.Close()
	}
	l.cut()
	l.work.Wait()
}
