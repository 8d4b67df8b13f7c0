package network

import (
	"net"
	"testing"
	"time"
)

// TestAdmissionCloses has connections closed in favour of others, and all of
// them: closing one tells the admission so.
func TestAdmissionCloses(t *testing.T) {
	a := newAdmission(10)
	open := func() net.Conn {
		near, far := net.Pipe()
		t.Cleanup(func() { _ = far.Close() })
		return &trackedConn{Conn: near, n: &Network{admission: a}}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		first := open()
		a.enter(first)
		for range maxPending - 1 {
			a.enter(open())
		}
		if evicted, ok := a.enter(open()); evicted != first || !ok {
			t.Errorf("evicted %v, %v; want the oldest", evicted, ok)
		}
		for range 3 {
			a.admit(open(), true)
		}
		a.closeAll()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("closing connections waits for itself")
	}
	if n := a.open(); n != 0 || len(a.pending) != 0 {
		t.Errorf("%d admitted and %d pending connections are left", n, len(a.pending))
	}
	if _, ok := a.enter(open()); ok {
		t.Error("a connection entered after all were closed")
	}
}
