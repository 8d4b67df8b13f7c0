package network

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// After the hello a stream is a sequence of records: 4 bytes of length, whose
// highest bit says that a message ends here, and the payload, sealed with the
// head as additional data and the record's number as nonce if there are keys.
const (
	recordHead = 4
	maxRecord  = 64 << 10 // bytes of payload
	endBit     = 1 << 31
)

var errRecord = errors.New("damaged or forged record")

// recordConn is a stream after its hello. A read and a write may run at the
// same time; reads among themselves and writes among themselves wait for each
// other.
type recordConn struct {
	net.Conn
	idle  time.Duration // how long a read or write may take for which no deadline is set
	limit time.Time     // no deadline is later, if set
	count func(n int)   // bytes sent or received
	bad   func(error)   // told about damaged records

	readMu  sync.Mutex
	rcv     cipher.AEAD
	rcvNo   uint64
	raw     []byte // of a record
	plain   []byte // of a record, not yet read
	ended   bool   // the record that plain is of ended a message
	readErr error

	writeMu  sync.Mutex
	send     cipher.AEAD
	sendNo   uint64
	out      []byte
	writeErr error

	deadlineMu      sync.Mutex
	readBy, writeBy bool // deadlines are set by the user
}

func newRecordConn(conn net.Conn, s session, idle time.Duration) *recordConn {
	return &recordConn{Conn: conn, idle: idle, rcv: s.rcv, send: s.send, count: func(int) {}, bad: func(error) {}}
}

func nonce(buf *[12]byte, n uint64) []byte {
	binary.BigEndian.PutUint64(buf[4:], n)
	return buf[:]
}

// Read returns bytes of the stream, whatever messages they belong to.
func (c *recordConn) Read(b []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for len(c.plain) == 0 {
		if err := c.readRecord(maxRecord); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

// readMessage returns all until the next end of a message, at most limit bytes.
// Memory grows with what arrives, not with what is announced.
func (c *recordConn) readMessage(limit int) ([]byte, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	var message []byte
	for {
		if err := c.readRecord(limit - len(message)); err != nil {
			if len(message) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		message = append(message, c.plain...)
		c.plain = nil
		if c.ended {
			return message, nil
		}
	}
}

var errMessageTooLarge = errors.New("message is larger than allowed")

// readRecord replaces plain. A stream that failed once stays failed: the next
// record can't be found, or would not open.
func (c *recordConn) readRecord(limit int) error {
	if c.readErr != nil {
		return c.readErr
	}
	c.readErr = c.nextRecord(limit)
	return c.readErr
}

func (c *recordConn) nextRecord(limit int) error {
	if err := c.extend(&c.readBy, c.Conn.SetReadDeadline); err != nil {
		return err
	}
	var head [recordHead]byte
	if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
		return err
	}
	word := binary.BigEndian.Uint32(head[:])
	c.ended = word&endBit != 0
	size := int(word &^ endBit)
	overhead := 0
	if c.rcv != nil {
		overhead = c.rcv.Overhead()
	}
	if size > maxRecord || (size == 0 && !c.ended) {
		c.bad(errRecord)
		return errRecord
	}
	if size > limit {
		c.bad(errMessageTooLarge)
		return errMessageTooLarge
	}
	if cap(c.raw) < size+overhead {
		c.raw = make([]byte, size+overhead)
	}
	raw := c.raw[:size+overhead]
	if _, err := io.ReadFull(c.Conn, raw); err != nil {
		return unexpected(err)
	}
	c.count(recordHead + len(raw))
	c.plain = raw
	if c.rcv == nil {
		return nil
	}
	var buf [12]byte
	plain, err := c.rcv.Open(raw[:0], nonce(&buf, c.rcvNo), raw, head[:])
	c.rcvNo++
	if err != nil {
		c.bad(errRecord)
		return errRecord
	}
	c.plain = plain
	return nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write sends b as one message.
func (c *recordConn) Write(b []byte) (written int, err error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	for {
		n := min(len(b), maxRecord)
		if err := c.writeRecord(b[:n], n == len(b)); err != nil {
			return written, err
		}
		written += n
		if b = b[n:]; len(b) == 0 {
			return written, nil
		}
	}
}

func (c *recordConn) writeRecord(payload []byte, end bool) error {
	if c.writeErr != nil { // half a record may be under way
		return c.writeErr
	}
	if err := c.extend(&c.writeBy, c.Conn.SetWriteDeadline); err != nil {
		return err
	}
	word := uint32(len(payload))
	if end {
		word |= endBit
	}
	c.out = binary.BigEndian.AppendUint32(c.out[:0], word)
	if c.send == nil {
		c.out = append(c.out, payload...)
	} else {
		var buf [12]byte
		c.out = c.send.Seal(c.out, nonce(&buf, c.sendNo), payload, c.out[:recordHead])
		c.sendNo++
	}
	_, c.writeErr = c.Conn.Write(c.out)
	if c.writeErr == nil {
		c.count(len(c.out))
	}
	return c.writeErr
}

// extend gives a read or write its time if the user has set none.
func (c *recordConn) extend(byUser *bool, set func(time.Time) error) error {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if *byUser {
		return nil
	}
	return set(c.bounded(time.Now().Add(c.idle)))
}

func (c *recordConn) bounded(t time.Time) time.Time {
	if !c.limit.IsZero() && t.After(c.limit) {
		return c.limit
	}
	return t
}

func (c *recordConn) setBy(t time.Time, set func(time.Time) error, byUser ...*bool) error {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	for _, b := range byUser {
		*b = !t.IsZero()
	}
	if t.IsZero() {
		t = time.Now().Add(c.idle)
	}
	return set(c.bounded(t))
}

// SetDeadline is as net.Conn's, but that the zero time stands for what is
// usual, and not for none.
func (c *recordConn) SetDeadline(t time.Time) error {
	return c.setBy(t, c.Conn.SetDeadline, &c.readBy, &c.writeBy)
}

// SetReadDeadline is SetDeadline for reads.
func (c *recordConn) SetReadDeadline(t time.Time) error {
	return c.setBy(t, c.Conn.SetReadDeadline, &c.readBy)
}

// SetWriteDeadline is SetDeadline for writes.
func (c *recordConn) SetWriteDeadline(t time.Time) error {
	return c.setBy(t, c.Conn.SetWriteDeadline, &c.writeBy)
}
