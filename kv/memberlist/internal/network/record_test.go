package network

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// sessions returns the two ends of a stream's keys.
func sessions(t *testing.T) (a, b session) {
	t.Helper()
	out, in, err := sessionKeys(key(1), make([]byte, saltSize), make([]byte, saltSize), "a")
	if err != nil {
		t.Fatal(err)
	}
	return session{send: out, rcv: in}, session{send: in, rcv: out}
}

// capture returns the bytes of a stream with two messages.
func capture(t *testing.T, s session) []byte {
	t.Helper()
	near, far := pipe()
	conn := newRecordConn(near, s, patience)
	for _, m := range []string{"first message", "second message"} {
		if _, err := conn.Write([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	_ = near.Close()
	all, err := io.ReadAll(far)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// replay reads what somebody made of a stream.
func replay(t *testing.T, s session, wire []byte) (messages []string, err error) {
	t.Helper()
	near, far := pipe()
	if _, err := near.Write(wire); err != nil {
		t.Fatal(err)
	}
	_ = near.Close()
	conn := newRecordConn(far, s, patience)
	for {
		m, err := conn.readMessage(1 << 10)
		if err != nil {
			return messages, err
		}
		messages = append(messages, string(m))
	}
}

func TestRecordsCantBeChangedRepeatedOrReordered(t *testing.T) {
	a, b := sessions(t)
	wire := capture(t, a)
	if got, err := replay(t, b, wire); len(got) != 2 || !errors.Is(err, io.EOF) {
		t.Fatalf("untouched: %q, %v", got, err)
	}
	for i := recordHead; i < len(wire); i++ {
		changed := append([]byte(nil), wire...)
		changed[i] ^= 1
		if got, err := replay(t, b, changed); len(got) == 2 {
			t.Errorf("byte %d changed: %q, %v", i, got, err)
		}
	}
	first := wire[:recordHead+len("first message")+tagSize]
	second := wire[len(first):]
	for name, forged := range map[string][]byte{
		"repeated":  append(append([]byte(nil), first...), wire...),
		"reordered": append(append([]byte(nil), second...), first...),
		"left out":  second,
	} {
		if got, err := replay(t, b, forged); !errors.Is(err, errRecord) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := replay(t, a, wire); len(got) != 0 || !errors.Is(err, errRecord) {
		t.Errorf("sent back to its sender: %q, %v", got, err)
	}
	for n := 1; n < len(wire); n++ {
		if got, err := replay(t, b, wire[:n]); len(got) == 2 || (n != len(first) && !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("cut after %d bytes: %q, %v", n, got, err)
		}
	}
}

func TestMessageLargerThanAllowedIsRefusedBeforeItIsRead(t *testing.T) {
	near, far := pipe()
	go func() { _, _ = newRecordConn(near, session{}, patience).Write(make([]byte, 2<<10)) }()
	var told error
	conn := newRecordConn(far, session{}, patience)
	conn.bad = func(err error) { told = err }
	if _, err := conn.readMessage(1 << 10); !errors.Is(err, errMessageTooLarge) || !errors.Is(told, errMessageTooLarge) {
		t.Errorf("error %v, told %v", err, told)
	}
	if cap(conn.raw) != 0 {
		t.Errorf("%d bytes were allocated for it", cap(conn.raw))
	}
}

func TestReadsAndWritesOfAStreamEndByThemselves(t *testing.T) {
	near, _ := pipe()
	conn := newRecordConn(near, session{}, 20*time.Millisecond)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	big := make([]byte, 4*pipeBuffer) // nobody reads
	if _, err := conn.Write(big); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}

	near, far := pipe()
	conn = newRecordConn(near, session{}, time.Millisecond)
	if err := conn.SetReadDeadline(time.Now().Add(time.Hour)); err != nil { // longer than what is usual
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() { _, err := conn.Read(make([]byte, 1)); got <- err }()
	select {
	case err := <-got:
		t.Fatalf("ended at the usual time: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := newRecordConn(far, session{}, patience).Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("read: %v", err)
	}

	near, _ = pipe()
	conn = newRecordConn(near, session{}, time.Hour)
	conn.limit = time.Now().Add(20 * time.Millisecond)
	if err := conn.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read beyond the limit: %v", err)
	}
}
