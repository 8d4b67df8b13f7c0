package network

import (
	"crypto/tls"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// secureConn is a stream in TLS after its hello. TLS alone writes each record
// of 16 KiB by itself, and returns one by a Read. Here those of one Write go
// out together, and a Read returns what several have brought.
type secureConn struct {
	*tls.Conn
	line *lineConn
}

// maxRecord is how many bytes a record carries, and maxSealed how many it has.
const (
	maxRecord = 16 << 10
	maxSealed = maxRecord + 256
)

// Read is as TLS's, but goes on for as long as what is there makes records.
func (c *secureConn) Read(b []byte) (int, error) {
	c.line.wide, c.line.only = true, false
	n, err := c.Conn.Read(b)
	c.line.only = true
	for more := n; more > 0 && n < len(b) && err == nil; n += more {
		more, _ = c.Conn.Read(b[n:]) // an error comes again by the next Read
	}
	return n, err
}

// Write is as TLS's.
func (c *secureConn) Write(b []byte) (int, error) {
	c.line.coming.Store(int64((len(b) - 1) / maxRecord))
	return c.Conn.Write(b)
}

// lineConn is the connection beneath TLS, and, as far as it has been read
// before that was known, beneath a stream in the clear. TLS makes one call of
// Read at a time, and one of Write. Between calls it holds memory only for what
// has come and wasn't asked for.
type lineConn struct {
	net.Conn

	in     []byte // came, and wasn't asked for yet
	inBuf  *lineBuf
	wide   bool // more than what is asked for may be read: the peer has proven a key
	filled bool // the last read brought all that it could, so there may be more
	only   bool // what came: nothing is waited for

	out    []byte       // waits for the records that are coming
	coming atomic.Int64 // after the next one
}

type lineBuf [4 * maxSealed]byte

var lineBufs = sync.Pool{New: func() any { return new(lineBuf) }}

func (c *lineConn) Read(b []byte) (int, error) {
	if len(c.in) == 0 {
		if c.only {
			return 0, os.ErrDeadlineExceeded // after which TLS can go on
		}
		if !c.wide || !c.filled || len(b) >= len(lineBuf{}) {
			n, err := c.Conn.Read(b)
			c.filled = n == len(b)
			return n, err
		}
		c.inBuf = lineBufs.Get().(*lineBuf)
		n, err := c.Conn.Read(c.inBuf[:])
		c.filled = n == len(c.inBuf)
		if c.in = c.inBuf[:n]; n == 0 {
			c.release()
			return 0, err
		}
	}
	n := copy(b, c.in)
	if c.in = c.in[n:]; len(c.in) == 0 {
		c.release()
	}
	return n, nil
}

func (c *lineConn) release() {
	if c.inBuf != nil {
		lineBufs.Put(c.inBuf)
		c.inBuf, c.in = nil, nil
	}
}

func (c *lineConn) Write(b []byte) (int, error) {
	last := c.coming.Add(-1) < 0
	if last && len(c.out) == 0 {
		return c.Conn.Write(b)
	}
	if c.out == nil {
		c.out = lineBufs.Get().(*lineBuf)[:0]
	}
	c.out = append(c.out, b...)
	if !last && cap(c.out)-len(c.out) >= maxSealed {
		return len(b), nil
	}
	_, err := c.Conn.Write(c.out)
	if err != nil {
		return 0, err // TLS tries no more
	}
	lineBufs.Put((*lineBuf)(c.out[:cap(c.out)]))
	c.out = nil
	return len(b), nil
}
