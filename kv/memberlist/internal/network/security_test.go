package network

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func key(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func ringOf(t testing.TB, s Security) *ring {
	t.Helper()
	r, err := newRing(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestPacketIsOpenedOnlyByWhoMay(t *testing.T) {
	plain := Security{Label: "a"}
	sealed := Security{Label: "a", Keys: [][]byte{key(1)}}
	for _, test := range []struct {
		name     string
		from, to Security
		why      Cause
	}{
		{"plain", plain, plain, ""},
		{"sealed", sealed, sealed, ""},
		{"no label", Security{}, Security{}, ""},
		{"another label", Security{Label: "b"}, plain, CauseLabel},
		{"an accepted label", Security{Label: "b"}, Security{Label: "a", AcceptLabels: []string{"b"}}, ""},
		{"an accepted label, sealed", Security{Label: "b", Keys: sealed.Keys}, Security{Label: "a", AcceptLabels: []string{"b"}, Keys: sealed.Keys}, ""},
		{"a label where none is expected", plain, Security{}, CauseLabel},
		{"another key", Security{Label: "a", Keys: [][]byte{key(2)}}, sealed, CauseKey},
		{"the second key", Security{Label: "a", Keys: [][]byte{key(2)}}, Security{Label: "a", Keys: [][]byte{key(1), key(2)}}, ""},
		{"a key where there is none", sealed, plain, CauseKey},
		{"plaintext where there are keys", plain, sealed, CausePlaintext},
		{"plaintext while encryption is introduced", plain, Security{Label: "a", Keys: sealed.Keys, AcceptPlaintext: true}, ""},
		{"sealed to one that still sends plaintext", sealed, Security{Label: "a", Keys: sealed.Keys, AcceptPlaintext: true, SendPlaintext: true}, ""},
		{"from one that still sends plaintext", Security{Label: "a", Keys: sealed.Keys, AcceptPlaintext: true, SendPlaintext: true}, plain, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			from, to := ringOf(t, test.from), ringOf(t, test.to)
			var out, in cryptBuf
			for i := range 3 { // the sender is new, then known
				packet := from.sealPacket(&out, kindData, []byte("payload"))
				if len(packet) > len("payload")+maxOverhead || len(packet) != len("payload")+from.overhead() {
					t.Errorf("%d bytes around the payload", len(packet)-len("payload"))
				}
				kind, payload, why := to.openPacket(&in, slices.Clone(packet))
				if why != test.why {
					t.Fatalf("packet %d: cause %q, want %q", i, why, test.why)
				}
				if why == "" && (kind != kindData || string(payload) != "payload") {
					t.Errorf("packet %d: kind %d, payload %q", i, kind, payload)
				}
			}
		})
	}
}

func TestPacketIsRefusedAfterAnyChange(t *testing.T) {
	for _, s := range []Security{{Label: "a"}, {Label: "a", Keys: [][]byte{key(1)}}} {
		r := ringOf(t, s)
		var out, in cryptBuf
		packet := slices.Clone(r.sealPacket(&out, kindData, []byte("some payload")))
		for i := range packet {
			for bit := range 8 {
				changed := slices.Clone(packet)
				changed[i] ^= 1 << bit
				if _, payload, why := r.openPacket(&in, changed); why == "" {
					t.Errorf("keys %d: bit %d of byte %d changed, and %q is accepted", len(s.Keys), bit, i, payload)
				}
			}
		}
		for n := range packet {
			if _, _, why := r.openPacket(&in, packet[:n]); why == "" {
				t.Errorf("keys %d: the first %d bytes are accepted", len(s.Keys), n)
			}
		}
	}
}

func TestSealedPacketShowsNothingOfItsPayloadAndNeverRepeatsANonce(t *testing.T) {
	r := ringOf(t, Security{Keys: [][]byte{key(1)}})
	var buf cryptBuf
	seen := map[string]bool{}
	for range 1000 {
		packet := r.sealPacket(&buf, kindData, []byte("some secret payload"))
		if bytes.Contains(packet, []byte("secret")) {
			t.Fatal("the payload can be read")
		}
		nonce := string(packet[headSize:sealedSize])
		if seen[nonce] {
			t.Fatal("salt and counter repeat")
		}
		seen[nonce] = true
	}
	other := ringOf(t, Security{Keys: [][]byte{key(1)}})
	if other.salt == r.salt {
		t.Error("two processes have the same salt")
	}
}

func TestOnlyAuthenticatedSendersAreRemembered(t *testing.T) {
	r := ringOf(t, Security{Keys: [][]byte{key(1)}})
	var buf cryptBuf
	for range 100 {
		forged := ringOf(t, Security{Keys: [][]byte{key(2)}}).sealPacket(&buf, kindData, nil)
		if _, _, why := r.openPacket(&cryptBuf{}, forged); why != CauseKey {
			t.Fatalf("cause %q", why)
		}
	}
	if len(r.senders) != 0 {
		t.Errorf("%d senders are remembered", len(r.senders))
	}
}

func TestSecurityThatCantWorkIsRefused(t *testing.T) {
	for _, test := range []struct {
		s    Security
		want string
	}{
		{Security{Label: strings.Repeat("l", 256)}, "at most 255"},
		{Security{AcceptLabels: []string{strings.Repeat("l", 256)}}, "at most 255"},
		{Security{AcceptPlaintext: true}, "no encryption keys"},
		{Security{Keys: [][]byte{key(1)}, SendPlaintext: true}, "without accept_plaintext"},
	} {
		if _, err := newRing(test.s); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v doesn't say %q", err, test.want)
		}
	}
}

// pipe returns two ends of a stream.
func pipe() (near, far *fabricConn) {
	a, b := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1")
	return newFabricPipe(NewFabric(1), a, b)
}

func TestStreamIsAcceptedOnlyFromWhoMay(t *testing.T) {
	plain := Security{Label: "a"}
	sealed := Security{Label: "a", Keys: [][]byte{key(1)}}
	for _, test := range []struct {
		name     string
		from, to Security
		self     bool
		why      Cause
		told     string
	}{
		{name: "plain", from: plain, to: plain},
		{name: "sealed", from: sealed, to: sealed},
		{name: "the second key", from: sealed, to: Security{Label: "a", Keys: [][]byte{key(2), key(1)}}},
		{name: "an accepted label", from: plain, to: Security{AcceptLabels: []string{"a"}}},
		{name: "plaintext while encryption is introduced", from: plain, to: Security{Label: "a", Keys: sealed.Keys, AcceptPlaintext: true}},
		{name: "another label", from: plain, to: Security{Label: "b"}, why: CauseLabel, told: "another label"},
		{name: "another key", from: sealed, to: Security{Label: "a", Keys: [][]byte{key(2)}}, why: CauseKey, told: "first key"},
		{name: "a key where there is none", from: sealed, to: plain, why: CauseKey, told: "first key"},
		{name: "plaintext where there are keys", from: plain, to: sealed, why: CausePlaintext, told: "wants encryption"},
		{name: "a key, to one that still sends plaintext", from: sealed, to: Security{Label: "a", Keys: sealed.Keys, AcceptPlaintext: true, SendPlaintext: true}},
		{name: "another label and key", from: sealed, to: Security{Label: "b", Keys: [][]byte{key(2)}}, why: CauseLabel, told: "another label"},
		{name: "the other's second key is no answer to the first", from: Security{Label: "a", Keys: [][]byte{key(2), key(1)}}, to: sealed, why: CauseKey, told: "first key"},
		{name: "itself", from: plain, to: plain, self: true, why: causeSelf, told: errSelf.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			near, far := pipe()
			instance := uint64(2)
			if test.self {
				instance = 1
			}
			type accepted struct {
				conn net.Conn
				kind byte
				why  Cause
			}
			done := make(chan accepted, 1)
			go func() {
				conn, kind, why, _ := ringOf(t, test.to).acceptStream(far, 1)
				done <- accepted{conn, kind, why}
			}()
			conn, err := ringOf(t, test.from).openStream(near, kindData, instance)
			got := <-done
			if got.why != test.why {
				t.Fatalf("cause %q, want %q (%v)", got.why, test.why, err)
			}
			if test.told != "" {
				if err == nil || !strings.Contains(err.Error(), test.told) {
					t.Errorf("error %v doesn't say %q", err, test.told)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, secure := conn.(*secureConn); secure != (test.from.Keys != nil) || got.kind != kindData {
				t.Errorf("TLS: %v, kind %d", secure, got.kind)
			}
			exchange(t, newStreamConn(conn, near), newStreamConn(got.conn, far))
		})
	}
}

func exchange(t *testing.T, a, b *streamConn) {
	t.Helper()
	for _, way := range [][2]*streamConn{{a, b}, {b, a}} {
		for _, message := range []string{"first", "", strings.Repeat("x", pipeBuffer+1)} {
			go func() { _ = way[0].writeMessage([]byte(message)) }()
			got, err := way[1].readMessage(1 << 20)
			if err != nil || string(got) != message {
				t.Fatalf("%d bytes instead of %d, error %v", len(got), len(message), err)
			}
		}
	}
}
