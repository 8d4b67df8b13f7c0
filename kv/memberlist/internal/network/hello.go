package network

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A stream begins with a hello of whoever opened it:
//
//	1 byte    magic
//	1 byte    kind, and whether it will be sealed
//	8 bytes   the opener's instance, by which a node recognises itself
//	1 byte    length of the label, and the label
//	16 bytes  salt
//	16 bytes  sealed only: HMAC-SHA-256 of all that, under the key
//
// and the other's answer:
//
//	1 byte    status
//	16 bytes  salt, if the status is 0
//	16 bytes  sealed and status 0 only: HMAC of the hello and the answer
//
// Both salts make the keys of the records that follow, so that neither a hello
// nor a record can be used twice. Up to its tag a hello costs the other side
// these few bytes and nothing else.
const (
	helloMagic = 0xb8
	helloHead  = 1 + 1 + 8 + 1
)

// The status of an answer.
const (
	statusOK byte = iota
	statusLabel
	statusKey
	statusPlaintext
	statusSelf
)

// errSelf is returned by a dial of the node's own address.
var errSelf = errors.New("that address is this node's own")

// refusal is what the opener of a stream is told.
func refusal(status byte) error {
	switch status {
	case statusLabel:
		return errors.New("the other node belongs to a cluster with another label")
	case statusKey:
		return errors.New("the other node doesn't have this node's first key")
	case statusPlaintext:
		return errors.New("the other node wants encryption and this one doesn't")
	case statusSelf:
		return errSelf
	}
	return fmt.Errorf("the other node refused the stream with the unknown status %d", status)
}

// session is what both ends know after the hello. Its AEADs are nil if the
// stream isn't sealed.
type session struct {
	kind      byte
	send, rcv cipher.AEAD
}

func helloTag(key, salt []byte, label string, parts ...[]byte) ([]byte, error) {
	derived, err := hkdf.Key(sha256.New, key, salt, "polykv gossip hello 1\x00"+label, 32)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, derived)
	for _, part := range parts {
		mac.Write(part)
	}
	return mac.Sum(nil)[:tagSize], nil
}

// sessionKeys derives the keys of a stream's two directions.
func sessionKeys(key, opener, acceptor []byte, label string) (out, in cipher.AEAD, err error) {
	salt := append(append([]byte(nil), opener...), acceptor...)
	if out, err = deriveAEAD(key, salt, "polykv gossip stream 1 out\x00"+label); err != nil {
		return nil, nil, err
	}
	in, err = deriveAEAD(key, salt, "polykv gossip stream 1 in\x00"+label)
	return out, in, err
}

// openStream introduces this node to the one that accepts conn.
func (r *ring) openStream(conn io.ReadWriter, kind byte, instance uint64) (session, error) {
	hello := []byte{helloMagic, kind}
	if r.seal != nil {
		hello[1] |= flagSealed
	}
	hello = binary.BigEndian.AppendUint64(hello, instance)
	hello = append(hello, byte(len(r.Label)))
	hello = append(hello, r.Label...)
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return session{}, err
	}
	hello = append(hello, salt...)
	bare := hello
	if r.seal != nil {
		tag, err := helloTag(r.Keys[0], salt, r.Label, bare)
		if err != nil {
			return session{}, err
		}
		hello = append(hello, tag...)
	}
	if _, err := conn.Write(hello); err != nil {
		return session{}, err
	}
	return r.readAnswer(conn, kind, bare, salt)
}

var errBadAnswer = errors.New("the answer to the stream's hello is not of this cluster")

func (r *ring) readAnswer(conn io.Reader, kind byte, hello, salt []byte) (session, error) {
	var answer [1 + saltSize + tagSize]byte
	if _, err := io.ReadFull(conn, answer[:1]); err != nil {
		return session{}, err
	}
	if answer[0] != statusOK {
		return session{}, refusal(answer[0])
	}
	rest := answer[1 : 1+saltSize]
	if r.seal != nil {
		rest = answer[1:]
	}
	if _, err := io.ReadFull(conn, rest); err != nil {
		return session{}, err
	}
	if r.seal == nil {
		return session{kind: kind}, nil
	}
	tag, err := helloTag(r.Keys[0], salt, r.Label, hello, answer[:1+saltSize])
	if err != nil {
		return session{}, err
	}
	if !hmac.Equal(tag, answer[1+saltSize:]) {
		return session{}, errBadAnswer
	}
	out, in, err := sessionKeys(r.Keys[0], salt, answer[1:1+saltSize], r.Label)
	return session{kind: kind, send: out, rcv: in}, err
}

// hello is what acceptStream has read.
type hello struct {
	bytes    []byte // without the tag
	sealed   bool
	kind     byte
	instance uint64
	label    string
	salt     []byte
}

// acceptStream hears and answers a hello. A cause other than "" says why the
// stream is refused; detail is for the log.
func (r *ring) acceptStream(conn io.ReadWriter, self uint64) (s session, why Cause, detail string) {
	h, why, err := readHello(conn)
	if why != "" {
		return s, why, fmt.Sprint(err)
	}
	refuse := func(status byte, why Cause, detail string) (session, Cause, string) {
		_, _ = conn.Write([]byte{status})
		return session{}, why, detail
	}
	if _, ok := r.labels[idOf(h.label)]; !ok {
		return refuse(statusLabel, CauseLabel, fmt.Sprintf("label %q", h.label))
	}
	if !h.sealed && !r.acceptsPlaintext() {
		return refuse(statusPlaintext, CausePlaintext, "")
	}
	var key []byte
	if h.sealed {
		if key, err = r.readTag(conn, h); err != nil {
			return s, CauseHello, err.Error()
		}
		if key == nil {
			return refuse(statusKey, CauseKey, "")
		}
	}
	if h.instance == self { // joining a list that has this node in it is no fault
		return refuse(statusSelf, causeSelf, "")
	}
	s, err = answer(conn, h, key)
	if err != nil {
		return s, CauseHello, err.Error()
	}
	return s, "", ""
}

// causeSelf is a refusal that isn't counted.
const causeSelf Cause = "self"

func readHello(conn io.Reader) (hello, Cause, error) {
	buf := make([]byte, helloHead, helloHead+64+saltSize)
	if _, err := io.ReadFull(conn, buf); err != nil {
		return hello{}, CauseHello, err
	}
	kind := buf[1] & kindMask
	if buf[0] != helloMagic || buf[1]&^(kindMask|flagSealed) != 0 || (kind != kindData && kind != kindMembership && kind != kindPackets) {
		return hello{}, CauseForeign, errors.New("a stream of another protocol")
	}
	n := int(buf[helloHead-1])
	buf = append(buf, make([]byte, n+saltSize)...)
	if _, err := io.ReadFull(conn, buf[helloHead:]); err != nil {
		return hello{}, CauseHello, err
	}
	return hello{
		bytes: buf, sealed: buf[1]&flagSealed != 0, kind: kind,
		instance: binary.BigEndian.Uint64(buf[2:]),
		label:    string(buf[helloHead : helloHead+n]),
		salt:     buf[helloHead+n:],
	}, "", nil
}

// readTag returns the key under which the hello was made; nil if it is none of
// ours.
func (r *ring) readTag(conn io.Reader, h hello) ([]byte, error) {
	var tag [tagSize]byte
	if _, err := io.ReadFull(conn, tag[:]); err != nil {
		return nil, err
	}
	for _, key := range r.Keys {
		want, err := helloTag(key, h.salt, h.label, h.bytes)
		if err != nil {
			return nil, err
		}
		if hmac.Equal(want, tag[:]) {
			return key, nil
		}
	}
	return nil, nil
}

// answer welcomes a stream.
func answer(conn io.Writer, h hello, key []byte) (session, error) {
	s := session{kind: h.kind}
	b := make([]byte, 1+saltSize, 1+saltSize+tagSize)
	b[0] = statusOK
	if _, err := rand.Read(b[1:]); err != nil {
		return s, err
	}
	if key != nil {
		tag, err := helloTag(key, h.salt, h.label, h.bytes, b)
		if err != nil {
			return s, err
		}
		if s.rcv, s.send, err = sessionKeys(key, h.salt, b[1:], h.label); err != nil {
			return s, err
		}
		b = append(b, tag...)
	}
	_, err := conn.Write(b)
	return s, err
}
