package network

import (
	"bytes"
	"crypto/hmac"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// A stream is TLS 1.3 if whoever opens it has keys, else it is in the clear. In
// both the opener says hello:
//
//	1 byte    magic, which is the version of all this
//	1 byte    kind
//	8 bytes   the opener's instance, by which a node recognises itself
//	1 byte    length of the label, and the label
//	32 bytes  in TLS only: proof that the opener has a key
//
// and the other answers:
//
//	1 byte    status
//	32 bytes  in TLS only, if it isn't refused or is the opener itself: proof that
//	          the other has that key
//
// The rest is the stream's. The opener is the first to prove anything, so that
// nobody learns from a node by calling it.
const (
	helloMagic = 0xb9
	helloHead  = 1 + 1 + 8 + 1
)

// The status of an answer.
const (
	statusOK byte = iota
	statusLabel
	statusKey
	statusPlaintext
	statusSelf
	statusVersion
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
	case statusVersion:
		return errors.New("the other node speaks another version of this protocol")
	}
	return fmt.Errorf("the other node refused the stream with the unknown status %d", status)
}

// openStream introduces this node to the one that accepts raw, and returns what
// to go on with.
func (r *ring) openStream(raw net.Conn, kind byte, instance uint64) (net.Conn, error) {
	if r.seal == nil {
		return raw, r.introduce(raw, nil, kind, instance)
	}
	line := &lineConn{Conn: raw, in: raw}
	conn := tls.Client(line, r.tls)
	binding, err := bind(conn)
	if err != nil {
		return nil, fmt.Errorf("%w: there may be a node without TLS, of an earlier release, one that doesn't allow this address, or none at all", err)
	}
	if err := r.introduce(conn, binding, kind, instance); err != nil {
		return nil, err
	}
	return newSecureConn(conn, line), nil
}

var errBadAnswer = errors.New("the answer to the stream's hello is not of this cluster")

// introduce says hello; binding is nil in the clear.
func (r *ring) introduce(conn io.ReadWriter, binding []byte, kind byte, instance uint64) error {
	hello := binary.BigEndian.AppendUint64([]byte{helloMagic, kind}, instance)
	hello = append(hello, byte(len(r.Label)))
	hello = append(hello, r.Label...)
	said := hello
	if binding != nil {
		said = append(said, prove(r.Keys[0], roleOpener, binding, hello)...)
	}
	if _, err := conn.Write(said); err != nil {
		return err
	}
	var answer [1 + proofSize]byte
	if _, err := io.ReadFull(conn, answer[:1]); err != nil {
		return err
	}
	status := answer[0]
	if binding != nil && (status == statusOK || status == statusSelf) {
		if _, err := io.ReadFull(conn, answer[1:]); err != nil {
			return err
		}
		if !hmac.Equal(answer[1:], prove(r.Keys[0], roleAcceptor, binding, hello)) {
			return errBadAnswer
		}
	}
	if status != statusOK {
		return refusal(status)
	}
	return nil
}

// acceptStream hears and answers whoever opened raw, and returns what to go on
// with. A cause other than "" says why the stream is refused; detail is for the
// log.
func (r *ring) acceptStream(raw net.Conn, self uint64) (conn net.Conn, kind byte, why Cause, detail string) {
	var first [1]byte
	if _, err := io.ReadFull(raw, first[:]); err != nil {
		return nil, 0, CauseHello, err.Error()
	}
	line := &lineConn{Conn: raw, in: io.MultiReader(bytes.NewReader(first[:]), raw)}
	if first[0] != tlsHandshake {
		kind, why, detail = r.welcome(line, nil, self)
		return line, kind, why, detail
	}
	secure := tls.Server(line, r.tls)
	binding, err := bind(secure)
	if err != nil {
		return nil, 0, CauseHello, err.Error()
	}
	if kind, why, detail = r.welcome(secure, binding, self); why != "" {
		return nil, 0, why, detail
	}
	return newSecureConn(secure, line), kind, "", ""
}

// causeSelf is a refusal that isn't counted.
const causeSelf Cause = "self"

// welcome hears and answers a hello; binding is nil in the clear.
func (r *ring) welcome(conn io.ReadWriter, binding []byte, self uint64) (kind byte, why Cause, detail string) {
	h, why, err := readHello(conn, binding != nil)
	if err != nil {
		return 0, why, err.Error()
	}
	refuse := func(status byte, why Cause, detail string) (byte, Cause, string) {
		_, _ = conn.Write([]byte{status})
		return 0, why, detail
	}
	if h.magic != helloMagic {
		return refuse(statusVersion, CauseForeign, "a stream of an earlier version")
	}
	if _, ok := r.labels[idOf(h.label)]; !ok {
		return refuse(statusLabel, CauseLabel, fmt.Sprintf("label %q", h.label))
	}
	if binding == nil && !r.acceptsPlaintext() {
		return refuse(statusPlaintext, CausePlaintext, "")
	}
	answer := []byte{statusOK}
	if binding != nil {
		key := r.keyOf(h, binding)
		if key == nil {
			return refuse(statusKey, CauseKey, "")
		}
		answer = append(answer, prove(key, roleAcceptor, binding, h.bytes)...)
	}
	if h.instance == self { // joining a list that has this node in it is no fault
		answer[0], why = statusSelf, causeSelf
	}
	if _, err := conn.Write(answer); err != nil {
		return 0, CauseHello, err.Error()
	}
	return h.kind, why, ""
}

// hello is what the opener of a stream has said.
type hello struct {
	bytes, proof []byte // the proof is of the bytes
	magic, kind  byte
	instance     uint64
	label        string
}

// readHello reads a hello, of an earlier version its beginning only.
func readHello(conn io.Reader, secure bool) (hello, Cause, error) {
	b := make([]byte, helloHead)
	if _, err := io.ReadFull(conn, b); err != nil {
		return hello{}, CauseHello, err
	}
	h := hello{magic: b[0], kind: b[1], instance: binary.BigEndian.Uint64(b[2:])}
	if h.magic == helloMagic-1 {
		return h, "", nil
	}
	if h.magic != helloMagic || (h.kind != kindData && h.kind != kindMembership && h.kind != kindPackets) {
		return h, CauseForeign, errors.New("a stream of another protocol")
	}
	end := helloHead + int(b[helloHead-1])
	size := end
	if secure {
		size += proofSize
	}
	b = append(b, make([]byte, size-helloHead)...)
	if _, err := io.ReadFull(conn, b[helloHead:]); err != nil {
		return h, CauseHello, err
	}
	h.bytes, h.proof, h.label = b[:end], b[end:], string(b[helloHead:end])
	return h, "", nil
}

// keyOf returns the key that the opener of a stream has shown to have; nil if
// it is none of ours.
func (r *ring) keyOf(h hello, binding []byte) []byte {
	for _, key := range r.Keys {
		if hmac.Equal(h.proof, prove(key, roleOpener, binding, h.bytes)) {
			return key
		}
	}
	return nil
}
