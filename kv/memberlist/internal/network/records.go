package network

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"sync"
)

// TLS reads and writes each record of 16 KiB by itself. Buffers beneath it spare
// system calls. There are none before the peer has proven a key.
const (
	readBuffer  = 32 << 10
	writeBuffer = 64 << 10
)

// secureConn is a stream in TLS after its hello. The records of one Write go out
// together.
type secureConn struct {
	*tls.Conn
	line *lineConn
}

func newSecureConn(conn *tls.Conn, line *lineConn) *secureConn {
	line.in, line.out = bufio.NewReaderSize(line.in, readBuffer), bufio.NewWriterSize(line.Conn, writeBuffer)
	return &secureConn{conn, line}
}

// Write is as TLS's.
func (c *secureConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		err = c.line.flush()
	}
	return n, err
}

// lineConn is the connection beneath TLS, and, as far as it has been read
// before that was known, beneath a stream in the clear.
type lineConn struct {
	net.Conn
	in io.Reader

	mu  sync.Mutex // TLS may write while a Write of the stream is flushed: an alert
	out *bufio.Writer
}

func (c *lineConn) Read(b []byte) (int, error) { return c.in.Read(b) }

func (c *lineConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		return c.Conn.Write(b)
	}
	return c.out.Write(b)
}

func (c *lineConn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Flush()
}
