package spread

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// chunkSize is the largest body of most messages on a stream, in bytes. Values
// travel in chunks of it, and each has the stream timeout to itself.
const chunkSize = 256 << 10

// maxMessage is the largest body of all: of msgBegin with all that a context holds.
const maxMessage = 2 << 20

// streamHeader is length (4 bytes), wire version and kind.
const streamHeader = 6

// A stream carries messages over a connection, in both directions in turn.
// No read and no write takes longer than timeout.
type stream struct {
	conn     net.Conn
	in       *bufio.Reader
	timeout  time.Duration
	patience time.Duration // until the first answer since it was taken from the pool; 0: timeout
	body     bytes.Buffer  // of the message received last
	answered bool          // since it was taken from the pool
	heard    func()        // called for each message since then; may be nil
	out      []byte
}

func newStream(conn net.Conn, timeout time.Duration) *stream {
	return &stream{conn: conn, in: bufio.NewReaderSize(conn, 16<<10), timeout: timeout}
}

// send writes one message, which has at most maxMessage bytes.
func (s *stream) send(kind byte, body ...[]byte) error {
	s.out = append(s.out[:0], 0, 0, 0, 0, wireVersion, kind)
	for _, part := range body {
		s.out = append(s.out, part...)
	}
	n := len(s.out) - streamHeader
	if n > maxMessage {
		return fmt.Errorf("message of %d bytes, at most %d are allowed", n, maxMessage)
	}
	binary.BigEndian.PutUint32(s.out, uint32(n))
	if err := s.conn.SetWriteDeadline(s.deadline()); err != nil {
		return err
	}
	_, err := s.conn.Write(s.out)
	return err
}

// deadline is when a read or write that begins now ends.
func (s *stream) deadline() time.Time {
	limit := s.timeout
	if !s.answered && s.patience > 0 {
		limit = min(limit, s.patience)
	}
	return time.Now().Add(limit)
}

// receive reads one message. Its body belongs to the stream and holds until
// the next call. io.EOF says that the peer closed the stream between messages.
func (s *stream) receive() (kind byte, body []byte, err error) {
	if err := s.conn.SetReadDeadline(s.deadline()); err != nil {
		return 0, nil, err
	}
	var header [streamHeader]byte
	if _, err := io.ReadFull(s.in, header[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(header[:])
	switch {
	case n > maxMessage:
		return 0, nil, fmt.Errorf("%w: %d bytes, at most %d are allowed", errMalformed, n, maxMessage)
	case header[4] != wireVersion:
		return 0, nil, fmt.Errorf("%w: version %d, want %d", errMalformed, header[4], wireVersion)
	}
	s.body.Reset() // which grows with what has arrived, not with what was announced
	if _, err := io.CopyN(&s.body, s.in, int64(n)); errors.Is(err, io.EOF) {
		return 0, nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return 0, nil, err
	}
	s.answered = true
	if s.heard != nil {
		s.heard()
	}
	return header[5], s.body.Bytes(), nil
}

// expect reads one message of the given kind.
func (s *stream) expect(kind byte) ([]byte, error) {
	got, body, err := s.receive()
	if err != nil {
		return nil, err
	}
	if got != kind {
		return nil, fmt.Errorf("%w: kind %d, want %d", errMalformed, got, kind)
	}
	return body, nil
}

func (s *stream) close() { _ = s.conn.Close() }
