package network

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

// streamConn is a stream after its hello. A read and a write may run at the
// same time.
//
// Its end is that of the connection below. TLS could say good-bye first, but
// that may take seconds, and proves nothing that matters: every message says
// where it ends, so what is cut off is missed.
type streamConn struct {
	net.Conn             // TLS, or raw
	raw      net.Conn    // what is closed
	bad      func(error) // told once about what was damaged or is too large
	badOnce  sync.Once

	writeMu  sync.Mutex // of messages
	out      []byte
	writeErr error // half a message may be under way
}

func newStreamConn(conn, raw net.Conn) *streamConn {
	return &streamConn{Conn: conn, raw: raw, bad: func(error) {}}
}

// Close ends the stream at once.
func (c *streamConn) Close() error { return c.raw.Close() }

func (c *streamConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if damaged(err) {
		c.badOnce.Do(func() { c.bad(err) })
	}
	return n, err
}

// damaged tells whether TLS found something that the peer can't have sent.
func damaged(err error) bool {
	var own *net.OpError
	var head tls.RecordHeaderError
	return errors.As(err, &own) && own.Op == "local error" || errors.As(err, &head)
}

// Of the streams that carry messages each begins with 4 bytes of length.
const messageHead = 4

var errMessageTooLarge = errors.New("message is larger than allowed")

// writeMessage sends b.
func (c *streamConn) writeMessage(b []byte) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.writeErr == nil {
		c.out = append(binary.BigEndian.AppendUint32(c.out[:0], uint32(len(b))), b...)
		_, c.writeErr = c.Write(c.out)
	}
	return c.writeErr
}

// readMessage returns what the other side's writeMessage sent, at most limit
// bytes. Memory grows with what arrives, not with what is announced.
func (c *streamConn) readMessage(limit int) ([]byte, error) {
	var head [messageHead]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(head[:]))
	if size > int64(limit) {
		c.badOnce.Do(func() { c.bad(errMessageTooLarge) })
		return nil, errMessageTooLarge
	}
	var message bytes.Buffer
	if _, err := io.CopyN(&message, c, size); errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, err
	}
	return message.Bytes(), nil
}
