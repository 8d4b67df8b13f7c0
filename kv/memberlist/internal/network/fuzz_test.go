package network

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/hashicorp/memberlist"
)

// What a decoder lets through is of this size at most, whatever it announces.

func FuzzPacket(f *testing.F) {
	rings := []*ring{
		ringOf(f, Security{Label: "a"}), ringOf(f, Security{Label: "a", Keys: [][]byte{key(1)}}),
		ringOf(f, Security{AcceptLabels: []string{"a"}, Keys: [][]byte{key(2), key(1)}, AcceptPlaintext: true}),
	}
	for _, r := range rings {
		f.Add(bytes.Clone(r.sealPacket(&cryptBuf{}, kindData, []byte("payload"))))
		f.Add(bytes.Clone(r.sealPacket(&cryptBuf{}, kindMembership, nil)))
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, r := range rings {
			kind, payload, why := r.openPacket(&cryptBuf{}, packet)
			if why == "" && (kind != kindData && kind != kindMembership || len(payload) > len(packet)) {
				t.Errorf("kind %d, %d bytes of %d", kind, len(payload), len(packet))
			}
		}
	})
}

func FuzzMembershipPacket(f *testing.F) {
	f.Add(ackMsg(1))
	f.Add(encodeMsg(f, msgDead, deadMsg{1, "a/1", "a/1"}))
	f.Add(compound(ackMsg(1), encodeMsg(f, msgSuspect, deadMsg{1, "a/1", "b/1"})))
	f.Fuzz(func(_ *testing.T, packet []byte) { _ = newSeen().packet(packet) })
}

func FuzzMembershipStream(f *testing.F) {
	f.Add(pushPull(f, pushPullHead{Nodes: 2, UserStateLen: 3, Join: true}, []byte("abc"), goodNode(), goodNode()))
	f.Add(pushPull(f, pushPullHead{Nodes: 1 << 20}, nil))
	f.Fuzz(func(_ *testing.T, message []byte) { _ = newSeen().stream(message) })
}

// script is a connection that has said all it will say.
type script struct {
	io.Reader
	io.Writer
}

// Before a proof was heard, hellos and answers are of anybody, in TLS too.
func FuzzHello(f *testing.F) {
	rings := []*ring{ringOf(f, Security{Label: "a"}), ringOf(f, Security{Label: "a", Keys: [][]byte{key(1)}})}
	binding := make([]byte, 32)
	for _, b := range [][]byte{nil, binding} {
		var hello bytes.Buffer
		_ = rings[1].introduce(script{bytes.NewReader(nil), &hello}, b, kindData, 1)
		f.Add(hello.Bytes())
	}
	f.Fuzz(func(t *testing.T, hello []byte) {
		for i, r := range rings {
			for _, b := range [][]byte{nil, binding} {
				kind, why, _ := r.welcome(script{bytes.NewReader(hello), io.Discard}, b, 2)
				if why == "" && kind != kindData && kind != kindMembership && kind != kindPackets {
					t.Errorf("kind %d is accepted", kind)
				}
				if why == "" && (i == 0) != (b == nil) {
					t.Error("a stream without a key is accepted where there are keys, or one with a key that nobody has")
				}
			}
		}
	})
}

// The bytes that come before TLS has shaken hands.
func FuzzHandshake(f *testing.F) {
	r := ringOf(f, Security{Label: "a", Keys: [][]byte{key(1)}})
	var opener bytes.Buffer
	_, _ = r.openStream(&scriptConn{in: bytes.NewReader(nil), out: &opener}, kindData, 1)
	f.Add(opener.Bytes())
	f.Add([]byte{tlsHandshake, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, said []byte) {
		if _, _, why, _ := r.acceptStream(&scriptConn{in: bytes.NewReader(said), out: io.Discard}, 2); why == "" {
			t.Error("a stream without a key is accepted")
		}
		if _, err := r.openStream(&scriptConn{in: bytes.NewReader(said), out: io.Discard}, kindData, 1); err == nil {
			t.Error("an answer without a key is accepted")
		}
	})
}

// scriptConn is script for TLS.
type scriptConn struct {
	net.Conn // nil
	in       io.Reader
	out      io.Writer
}

func (c *scriptConn) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *scriptConn) Write(b []byte) (int, error) { return c.out.Write(b) }

func FuzzAnswer(f *testing.F) {
	rings := []*ring{ringOf(f, Security{Label: "a"}), ringOf(f, Security{Label: "a", Keys: [][]byte{key(1)}})}
	f.Add([]byte{statusOK, 1, 2, 3})
	f.Add([]byte{statusLabel})
	f.Fuzz(func(t *testing.T, answer []byte) {
		if rings[1].introduce(script{bytes.NewReader(answer), io.Discard}, make([]byte, 32), kindData, 1) == nil {
			t.Error("an answer without a key is accepted where there are keys")
		}
		if err := rings[0].introduce(script{bytes.NewReader(answer), io.Discard}, nil, kindData, 1); err == nil && answer[0] != statusOK {
			t.Error("a refusal is taken for none")
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte{0, 0, 0, 3, 'a', 'b', 'c'})
	f.Add([]byte{0, 0, 0, 1, 'a', 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, wire []byte) {
		if len(wire) > pipeBuffer {
			return
		}
		near, far := pipe()
		if _, err := near.Write(wire); err != nil {
			t.Fatal(err)
		}
		_ = near.Close()
		conn := newStreamConn(far, far)
		for {
			m, err := conn.readMessage(1 << 10)
			if err != nil {
				return
			}
			if len(m) > 1<<10 || len(m) > len(wire) {
				t.Fatalf("a message of %d bytes", len(m))
			}
		}
	})
}

func FuzzMember(f *testing.F) {
	f.Add("a/0123456789abcdef", []byte{10, 0, 0, 1}, uint16(1), encodeMeta(testStart))
	f.Add("a", []byte{}, uint16(0), []byte{})
	f.Add("a/0123456789ABCDEF", []byte{10, 0, 0, 1}, uint16(1), encodeMeta(testStart))
	f.Fuzz(func(t *testing.T, name string, addr []byte, port uint16, meta []byte) {
		peer, err := peerOf(&memberlist.Node{Name: name, Addr: addr, Port: port, Meta: meta})
		if err == nil && (peer.ID != name || memberID(peer.Name, peer.Instance) != peer.ID || !peer.Addr.IsValid()) {
			t.Errorf("%q became %+v", name, peer)
		}
	})
}
