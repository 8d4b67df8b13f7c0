package network

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// Eight records go out by three writes, a ninth of a few bytes by another, and
// several are read at once.
func TestRecordsOfOneWriteTravelTogether(t *testing.T) {
	r := ringOf(t, Security{Label: "a", Keys: [][]byte{key(1)}})
	a, b, line := between(t, r, r)
	line.keep = true
	sent := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	for _, part := range [][]byte{sent, sent[:9]} {
		if n, err := a.Write(part); err != nil || n != len(part) {
			t.Fatalf("%d bytes of %d, error %v", n, len(part), err)
		}
	}
	if len(line.kept) != 4 {
		t.Fatalf("%d writes", len(line.kept))
	}
	wire := slices.Concat(line.kept...)
	half := len(wire) / 2
	pass := func(part []byte) {
		if _, err := line.Conn.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	below := &countingReads{Conn: b.raw}
	b.Conn.(*secureConn).line.in.(*bufio.Reader).Reset(below)
	got := make([]byte, len(sent))
	pass(wire[:half])
	if _, err := io.ReadFull(b, got[:len(sent)/2]); err != nil || below.reads > 3 {
		t.Errorf("error %v, %d reads below", err, below.reads)
	}
	pass(wire[half:])
	if _, err := io.ReadFull(b, got[len(sent)/2:]); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("error %v", err)
	}
	if rest := heard(t, b, 9); !bytes.Equal(rest, sent[:9]) {
		t.Errorf("%q", rest)
	}
}

type countingReads struct {
	net.Conn
	reads, largest int
}

func (c *countingReads) Read(b []byte) (int, error) {
	c.reads++
	c.largest = max(c.largest, len(b))
	return c.Conn.Read(b)
}

func TestStrangerFillsNoLargeBuffer(t *testing.T) {
	r := ringOf(t, Security{Label: "a", Keys: [][]byte{key(1)}})
	near, far := pipe()
	if _, err := near.Write(append([]byte{tlsHandshake, 3, 1, 0x3f, 0xff, 1, 0, 0xff, 0xff}, make([]byte, 200<<10)...)); err != nil {
		t.Fatal(err)
	}
	below := &countingReads{Conn: far}
	if _, _, why, _ := r.acceptStream(below, 1); why != CauseHello || below.largest >= readBuffer {
		t.Errorf("cause %q, %d bytes are read at once", why, below.largest)
	}
}

// What failed once may have sent half of its records.
func TestNothingFollowsHalfOfTheRecords(t *testing.T) {
	r := ringOf(t, Security{Label: "a", Keys: [][]byte{key(1)}})
	a, _, line := between(t, r, r)
	failed := make(chan error, 1)
	go func() { _, err := a.Write(make([]byte, 2*pipeBuffer)); failed <- err }()
	eventually(t, "the pipe is full", func() bool {
		h := line.Conn.(*fabricConn).out
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.bytes) == pipeBuffer
	})
	_ = a.SetWriteDeadline(time.Unix(1, 0))
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("write: %v", err)
	}
	_ = a.SetWriteDeadline(time.Now().Add(patience))
	line.keep = true
	if _, err := a.Write([]byte("x")); err == nil || len(line.kept) > 0 {
		t.Errorf("second write: %v, %d below", err, len(line.kept))
	}
}
