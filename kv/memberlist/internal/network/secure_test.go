package network

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// outcome is what the two ends of a stream make of it.
type outcome struct {
	opened error
	why    Cause
}

// throughAMiddle has a ring open a stream to another, with somebody without a
// key in between who ends TLS on both sides.
func throughAMiddle(t *testing.T, from, to *ring, middle func(opener, acceptor *tls.Conn)) outcome {
	t.Helper()
	own, err := newTLS()
	if err != nil {
		t.Fatal(err)
	}
	near, left := pipe()
	right, far := pipe()
	why := make(chan Cause, 1)
	go func() {
		_, _, cause, _ := to.acceptStream(far, 1)
		_ = far.Close()
		why <- cause
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		opener, acceptor := tls.Server(left, own), tls.Client(right, own)
		if err := errors.Join(opener.Handshake(), acceptor.Handshake()); err != nil {
			t.Errorf("the one in the middle: %v", err)
		}
		middle(opener, acceptor)
		_, _ = left.Close(), right.Close()
	}()
	_, err = from.openStream(near, kindData, 2)
	_ = near.Close()
	<-done
	return outcome{err, <-why}
}

func helloSize(label string) int { return helloHead + len(label) + proofSize }

func heard(t *testing.T, conn net.Conn, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Errorf("the one in the middle: %v", err)
	}
	return b
}

func TestAManInTheMiddleIsNoticed(t *testing.T) {
	r := ringOf(t, Security{Label: "a", Keys: [][]byte{key(1)}})
	got := throughAMiddle(t, r, r, func(opener, acceptor *tls.Conn) { // hands on all that either says
		_, _ = acceptor.Write(heard(t, opener, helloSize("a")))
		_, _ = opener.Write(heard(t, acceptor, 1))
	})
	if got.why != CauseKey || got.opened == nil || !strings.Contains(got.opened.Error(), "first key") {
		t.Errorf("relayed: %+v", got)
	}
	got = throughAMiddle(t, r, r, func(opener, _ *tls.Conn) { // sends the opener's own proof back to it
		hello := heard(t, opener, helloSize("a"))
		_, _ = opener.Write(append([]byte{statusOK}, hello[len(hello)-proofSize:]...))
	})
	if !errors.Is(got.opened, errBadAnswer) {
		t.Errorf("reflected: %+v", got)
	}
	got = throughAMiddle(t, r, r, func(opener, _ *tls.Conn) { // makes one up
		heard(t, opener, helloSize("a"))
		_, _ = opener.Write(make([]byte, 1+proofSize))
	})
	if !errors.Is(got.opened, errBadAnswer) {
		t.Errorf("made up: %+v", got)
	}
	got = throughAMiddle(t, r, r, func(opener, _ *tls.Conn) { // would have the address taken for the opener's own
		heard(t, opener, helloSize("a"))
		_, _ = opener.Write(append([]byte{statusSelf}, make([]byte, proofSize)...))
	})
	if errors.Is(got.opened, errSelf) || !errors.Is(got.opened, errBadAnswer) {
		t.Errorf("taken for itself: %+v", got)
	}
}

// A proof is worth nothing in another stream, nor is a whole stream.
func TestStreamsCantBeReplayed(t *testing.T) {
	r := ringOf(t, Security{Label: "a", Keys: [][]byte{key(1)}})
	var hello []byte
	throughAMiddle(t, r, r, func(opener, _ *tls.Conn) { hello = heard(t, opener, helloSize("a")) })
	got := throughAMiddle(t, r, r, func(_, acceptor *tls.Conn) {
		_, _ = acceptor.Write(hello)
		heard(t, acceptor, 1)
	})
	if got.why != CauseKey {
		t.Errorf("an earlier proof: %+v", got)
	}

	near, far := pipe()
	recorded := &recording{Conn: near}
	go func() { _, _, _, _ = r.acceptStream(far, 1) }()
	if _, err := r.openStream(recorded, kindData, 2); err != nil {
		t.Fatal(err)
	}
	near, far = pipe()
	if _, err := near.Write(recorded.written.Bytes()); err != nil {
		t.Fatal(err)
	}
	if _, _, why, detail := r.acceptStream(far, 1); why != CauseHello {
		t.Errorf("an earlier stream: %q, %s", why, detail)
	}
}

type recording struct {
	net.Conn
	written bytes.Buffer
}

func (c *recording) Write(b []byte) (int, error) {
	c.written.Write(b)
	return c.Conn.Write(b)
}

// A relay that leads a node back to itself has both proofs right.
func TestNodeThatIsLedBackToItselfNoticesIt(t *testing.T) {
	r := ringOf(t, Security{Keys: [][]byte{key(1)}})
	near, far := pipe()
	why := make(chan Cause, 1)
	go func() {
		_, _, cause, _ := r.acceptStream(far, 7)
		why <- cause
	}()
	if _, err := r.openStream(near, kindData, 7); !errors.Is(err, errSelf) || <-why != causeSelf {
		t.Errorf("error %v", err)
	}
}

func TestStreamHidesWhatItCarries(t *testing.T) {
	r := ringOf(t, Security{Label: "the label", Keys: [][]byte{key(1)}})
	near, far := pipe()
	line := &recording{Conn: near}
	go func() { _, _, _, _ = r.acceptStream(far, 1) }()
	conn, err := r.openStream(line, kindData, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("some secret")); err != nil {
		t.Fatal(err)
	}
	if all := line.written.Bytes(); bytes.Contains(all, []byte("secret")) || bytes.Contains(all, []byte("label")) {
		t.Error("it can be read on the line")
	}
	state := conn.(*secureConn).ConnectionState()
	if state.Version != tls.VersionTLS13 || state.DidResume || state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("version %x, resumed %v, key exchange %v", state.Version, state.DidResume, state.CurveID)
	}
}

func TestEarlierVersionOfStreamsIsToldSo(t *testing.T) {
	r := ringOf(t, Security{Label: "a", Keys: [][]byte{key(1)}})
	near, far := pipe()
	if _, err := near.Write(append([]byte{helloMagic - 1, kindData | flagSealed}, make([]byte, 50)...)); err != nil {
		t.Fatal(err)
	}
	if _, _, why, detail := r.acceptStream(far, 1); why != CauseForeign || !strings.Contains(detail, "earlier version") {
		t.Errorf("cause %q, %s", why, detail)
	}
	_ = far.Close()
	if got := heard(t, near, 1); refusal(got[0]).Error() != "the other node speaks another version of this protocol" {
		t.Errorf("told %d", got[0])
	}
}

func TestEarlierTLSIsRefused(t *testing.T) {
	r := ringOf(t, Security{Label: "a", Keys: [][]byte{key(1)}})
	near, far := pipe()
	go func() {
		_ = tls.Client(near, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}).Handshake()
		_ = near.Close()
	}()
	if _, _, why, detail := r.acceptStream(far, 1); why != CauseHello || !strings.Contains(detail, "version") {
		t.Errorf("cause %q, %s", why, detail)
	}
}

// Whoever comes as far as this and then falls silent is closed by the time
// that a hello may take.
func TestSlowHelloIsOver(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T, conn net.Conn){
		"silent":           func(*testing.T, net.Conn) {},
		"half a record":    func(_ *testing.T, conn net.Conn) { _, _ = conn.Write([]byte{tlsHandshake, 3, 1, 2}) },
		"half a handshake": func(_ *testing.T, conn net.Conn) { _, _ = conn.Write([]byte{tlsHandshake, 3, 1, 0, 9, 1, 0, 1, 0}) },
		"half a hello":     func(_ *testing.T, conn net.Conn) { _, _ = conn.Write([]byte{helloMagic, kindData, 1}) },
		"no proof": func(t *testing.T, conn net.Conn) {
			own, err := newTLS()
			if err != nil {
				t.Fatal(err)
			}
			secure := tls.Client(conn, own)
			if err := secure.Handshake(); err != nil {
				t.Fatal(err)
			}
			_, _ = secure.Write(append([]byte{helloMagic, kindData}, make([]byte, 9)...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := NewFabric(1)
				cfg := testConfig("target")
				cfg.Fabric, cfg.Keys = f, [][]byte{key(1)}
				n := start(t, cfg, nil)
				stranger, err := f.attach("", 1)
				if err != nil {
					t.Fatal(err)
				}
				conn, err := stranger.dial(t.Context(), n.Self().Addr)
				if err != nil {
					t.Fatal(err)
				}
				opened := time.Now()
				begin(t, conn)
				_, _ = io.Copy(io.Discard, conn)
				if took := time.Since(opened); took != helloTimeout {
					t.Errorf("closed after %v", took)
				}
				synctest.Wait()
				if got := n.Stats().Rejected[CauseHello]; got != 1 {
					t.Errorf("%d are counted", got)
				}
			})
		})
	}
}

// Nodes with keys live in virtual time as all others.
func TestSecureStreamsInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFabric(1)
		f.SetDelay(time.Millisecond, 10*time.Millisecond)
		nodes := cluster(t, func(name string) Config {
			cfg := testConfig(name)
			cfg.Fabric, cfg.Keys = f, [][]byte{key(1)}
			return cfg
		}, 3)
		conn, err := nodes[0].Dial(t.Context(), nodes[0].Peers()[0])
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.Write([]byte("echo")); err != nil {
			t.Fatal(err)
		}
		if got := heard(t, conn, 4); string(got) != "echo" {
			t.Errorf("%q", got)
		}
		f.Partition([]netip.AddrPort{nodes[0].Peers()[0].Addr}) // nobody takes what Close might have to say
		begin := time.Now()
		_ = conn.Close()
		if took := time.Since(begin); took != 0 {
			t.Errorf("Close took %v", took)
		}
		f.Heal()
	})
}

func TestWhoDoesntSpeakTLSIsNamed(t *testing.T) {
	r := ringOf(t, Security{Label: "a", Keys: [][]byte{key(1)}})
	for _, said := range []string{"", "HTTP/1.1 400 Bad Request\r\n\r\n"} {
		near, far := pipe()
		if _, err := far.Write([]byte(said)); err != nil {
			t.Fatal(err)
		}
		_ = far.Close()
		if _, err := r.openStream(near, kindData, 2); err == nil || !strings.Contains(err.Error(), "earlier release") {
			t.Errorf("%q: %v", said, err)
		}
	}
}
