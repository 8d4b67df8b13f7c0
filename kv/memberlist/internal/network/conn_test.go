package network

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"
)

// tap is a connection whose writes can be kept instead of being sent.
type tap struct {
	net.Conn
	keep bool
	kept [][]byte
}

func (c *tap) Write(b []byte) (int, error) {
	if !c.keep {
		return c.Conn.Write(b)
	}
	c.kept = append(c.kept, bytes.Clone(b))
	return len(b), nil
}

// between returns the ends of a stream that was opened from one ring to
// another, and the tap of the first.
func between(t *testing.T, from, to *ring) (a, b *streamConn, line *tap) {
	t.Helper()
	near, far := pipe()
	line = &tap{Conn: near}
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, _, why, detail := to.acceptStream(far, 1)
		if why != "" {
			t.Errorf("refused: %s %s", why, detail)
		}
		accepted <- conn
	}()
	opened, err := from.openStream(line, kindData, 2)
	if err != nil {
		t.Fatal(err)
	}
	return newStreamConn(opened, line), newStreamConn(<-accepted, far), line
}

// captured is between with two messages under way, as records.
func captured(t *testing.T) (a, b *streamConn, line *tap) {
	t.Helper()
	r := ringOf(t, Security{Label: "a", Keys: [][]byte{key(1)}})
	a, b, line = between(t, r, r)
	line.keep = true
	for _, m := range []string{"first message", "second message"} {
		if err := a.writeMessage([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	if len(line.kept) != 2 {
		t.Fatalf("%d records", len(line.kept))
	}
	return a, b, line
}

// receive returns the messages that conn gets from what was made of a stream.
func receive(t *testing.T, conn *streamConn, from net.Conn, wire ...[]byte) (messages []string, damage, err error) {
	t.Helper()
	if _, err := from.Write(slices.Concat(wire...)); err != nil {
		t.Fatal(err)
	}
	_ = from.Close()
	conn.bad = func(err error) { damage = err }
	for {
		m, err := conn.readMessage(1 << 10)
		if err != nil {
			return messages, damage, err
		}
		messages = append(messages, string(m))
	}
}

func TestStreamCantBeChangedRepeatedOrReordered(t *testing.T) {
	_, b, line := captured(t)
	if got, damage, err := receive(t, b, line.Conn, line.kept...); len(got) != 2 || damage != nil || !errors.Is(err, io.EOF) {
		t.Fatalf("untouched: %q, %v, %v", got, damage, err)
	}
	size := len(slices.Concat(line.kept...))
	for i := range size {
		_, b, line := captured(t)
		wire := slices.Concat(line.kept...)
		wire[i] ^= 1
		if got, _, err := receive(t, b, line.Conn, wire); len(got) == 2 {
			t.Errorf("byte %d changed: %q, %v", i, got, err)
		}
	}
	for name, forge := range map[string]func(first, second []byte) [][]byte{
		"changed":   func(first, second []byte) [][]byte { second[len(second)-1] ^= 1; return [][]byte{first, second} },
		"repeated":  func(first, second []byte) [][]byte { return [][]byte{first, first, second} },
		"reordered": func(first, second []byte) [][]byte { return [][]byte{second, first} },
		"left out":  func(_, second []byte) [][]byte { return [][]byte{second} },
		"no TLS":    func(first, _ []byte) [][]byte { return [][]byte{first, []byte("GET / HTTP/1.1\r\n\r\n")} },
	} {
		_, b, line := captured(t)
		if got, damage, err := receive(t, b, line.Conn, forge(line.kept[0], line.kept[1])...); len(got) == 2 || damage == nil {
			t.Errorf("%s: %q, %v, told %v", name, got, err, damage)
		}
	}
	a, b, line := captured(t)
	if got, damage, err := receive(t, a, b.raw, line.kept...); len(got) != 0 || damage == nil {
		t.Errorf("sent back to its sender: %q, %v, told %v", got, err, damage)
	}
	_ = line.Close()
}

func TestStreamThatIsCutOffIsMissed(t *testing.T) {
	_, _, line := captured(t)
	first, size := len(line.kept[0]), len(slices.Concat(line.kept...))
	for n := 1; n < size; n++ {
		_, b, line := captured(t)
		got, _, err := receive(t, b, line.Conn, slices.Concat(line.kept...)[:n])
		if len(got) == 2 || (n != first && !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("cut after %d bytes: %q, %v", n, got, err)
		}
	}
	near, far := pipe() // in the clear
	_ = newStreamConn(near, near).writeMessage([]byte("message"))
	wire := make([]byte, messageHead+len("message"))
	if _, err := io.ReadFull(far, wire); err != nil {
		t.Fatal(err)
	}
	for n := 1; n < len(wire); n++ {
		near, far := pipe()
		if got, _, err := receive(t, newStreamConn(far, far), near, wire[:n]); len(got) > 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut after %d bytes in the clear: %q, %v", n, got, err)
		}
	}
}

func TestMessageLargerThanAllowedIsRefusedBeforeItIsRead(t *testing.T) {
	near, far := pipe()
	if _, err := near.Write([]byte{0xff, 0xff, 0xff, 0xff, 'a'}); err != nil {
		t.Fatal(err)
	}
	told := 0
	conn := newStreamConn(far, far)
	conn.bad = func(error) { told++ }
	if _, err := conn.readMessage(1 << 10); !errors.Is(err, errMessageTooLarge) || told != 1 {
		t.Errorf("error %v, told %d times", err, told)
	}

	near, far = pipe()
	if _, err := near.Write([]byte{0x0f, 0xff, 0xff, 0xff, 'a'}); err != nil { // allowed, but where is it?
		t.Fatal(err)
	}
	_ = near.Close()
	conn = newStreamConn(far, far)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := conn.readMessage(1 << 30); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v", err)
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 64<<20 {
		t.Errorf("%d bytes were allocated for what didn't come", after.TotalAlloc-before.TotalAlloc)
	}
}

// A write that failed may have sent half a message; nothing must follow it.
func TestNothingFollowsHalfAMessage(t *testing.T) {
	near, far := pipe()
	conn := newStreamConn(near, near)
	failed := make(chan error, 1)
	go func() { failed <- conn.writeMessage(make([]byte, 2*pipeBuffer)) }()
	heard(t, far, 1)
	_ = conn.SetWriteDeadline(time.Unix(1, 0))
	if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("write: %v", err)
	}
	_ = conn.SetWriteDeadline(time.Now().Add(patience))
	heard(t, far, 100)
	if err := conn.writeMessage([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("second write: %v", err)
	}
}

// What is slow or silent ends by itself.
func TestStreamsEndByThemselves(t *testing.T) {
	cfg := testConfig("target")
	cfg.StreamTimeout = 20 * time.Millisecond
	n := start(t, cfg, nil)

	near, _ := pipe()
	mc := n.transport.memberConn(newStreamConn(near, near), netip.AddrPort{}, 20*time.Millisecond)
	if err := mc.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := mc.Read(make([]byte, 1)); err == nil {
		t.Error("a stream of memberlist's goes on")
	}

	near, _ = pipe() // nobody reads
	s := newPacketStream(newStreamConn(near, near), cfg.StreamTimeout)
	s.add(kindData, make([]byte, 2*pipeBuffer))
	if err := s.flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a packet that nobody reads: %v", err)
	}

	near, far := pipe() // nobody writes
	s = newPacketStream(newStreamConn(near, near), cfg.StreamTimeout)
	s.add(kindPath, []byte("127.0.0.1:1"))
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	n.servePackets(newStreamConn(far, far)) // it returns
}
