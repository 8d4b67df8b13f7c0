package network

import (
	"bytes"
	"io"
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

func FuzzHello(f *testing.F) {
	rings := []*ring{ringOf(f, Security{Label: "a"}), ringOf(f, Security{Label: "a", Keys: [][]byte{key(1)}})}
	for _, r := range rings {
		var hello bytes.Buffer
		_, _ = r.openStream(script{bytes.NewReader(nil), &hello}, kindData, 1)
		f.Add(hello.Bytes())
	}
	f.Fuzz(func(t *testing.T, hello []byte) {
		for _, r := range rings {
			s, why, _ := r.acceptStream(script{bytes.NewReader(hello), io.Discard}, 2)
			if why == "" && (s.send == nil) != (len(r.Keys) == 0) {
				t.Error("a stream without a key is accepted where there are keys")
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	rings := []*ring{ringOf(f, Security{Label: "a"}), ringOf(f, Security{Label: "a", Keys: [][]byte{key(1)}})}
	f.Add([]byte{statusOK, 1, 2, 3})
	f.Add([]byte{statusLabel})
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, r := range rings {
			s, err := r.openStream(script{bytes.NewReader(answer), io.Discard}, kindData, 1)
			if err == nil && (s.send == nil) != (len(r.Keys) == 0) {
				t.Error("an answer without a key is accepted where there are keys")
			}
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte{0x80, 0, 0, 3, 'a', 'b', 'c'})
	f.Add([]byte{0, 0, 0, 1, 'a', 0x80, 0, 0, 0})
	f.Fuzz(func(t *testing.T, wire []byte) {
		if len(wire) > pipeBuffer {
			return
		}
		near, far := pipe()
		if _, err := near.Write(wire); err != nil {
			t.Fatal(err)
		}
		_ = near.Close()
		conn := newRecordConn(far, session{}, patience)
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
