package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// The types of memberlist's messages, the first byte of each. They are part of
// its wire format, which only grows.
const (
	msgPing         = 0
	msgIndirectPing = 1
	msgAck          = 2
	msgSuspect      = 3
	msgAlive        = 4
	msgDead         = 5
	msgPushPull     = 6
	msgCompound     = 7
	msgNack         = 11
	msgHasCRC       = 12
	msgError        = 13
)

// MaxName is how many bytes the name of a node may have.
const MaxName = 128

const (
	maxMemberID = MaxName + 1 + 16 // with the instance
	maxMeta     = 512
)

// inspector looks at memberlist's messages as they come and go. memberlist
// allocates what a message announces, so a message of which not all is as it
// should be doesn't reach it; and some things that memberlist knows are told
// nowhere but in its messages: that a member left on purpose, that one is
// suspected.
type inspector struct {
	handle     *codec.MsgpackHandle // shared: it remembers how structs are decoded
	maxMembers int
	left       func(id string)    // a member says of itself that it leaves
	suspected  func(id string)    // somebody suspects a member
	refuted    func(id string)    // a member is said to be alive; may be nil
	pinged     func(seqNo uint32) // outgoing only; may be nil
	leaving    func(msg []byte)   // outgoing only; may be nil: with the message itself
}

var errMalformed = errors.New("malformed membership message")

func (i *inspector) decode(b []byte, v any) error {
	return codec.NewDecoderBytes(b, i.handle).Decode(v)
}

// packet looks at a packet; an error means that memberlist must not see it.
func (i *inspector) packet(b []byte) error {
	if len(b) > 5 && b[0] == msgHasCRC { // memberlist compares it
		b = b[5:]
	}
	if len(b) == 0 {
		return errMalformed
	}
	if b[0] != msgCompound {
		return i.message(b)
	}
	parts, err := splitCompound(b[1:])
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := i.message(part); err != nil {
			return err
		}
	}
	return nil
}

// splitCompound returns the messages of a compound one: their number (1 byte),
// their lengths (2 bytes each), themselves.
func splitCompound(b []byte) ([][]byte, error) {
	if len(b) < 1 || len(b) < 1+2*int(b[0]) {
		return nil, errMalformed
	}
	n := int(b[0])
	sizes, rest := b[1:1+2*n], b[1+2*n:]
	parts := make([][]byte, n)
	for k := range parts {
		size := int(binary.BigEndian.Uint16(sizes[2*k:]))
		if size == 0 || size > len(rest) {
			return nil, errMalformed
		}
		parts[k], rest = rest[:size], rest[size:]
	}
	return parts, nil
}

func (i *inspector) message(b []byte) error {
	switch b[0] {
	case msgPing:
		var ping struct{ SeqNo uint32 }
		if i.pinged != nil && i.decode(b[1:], &ping) == nil {
			i.pinged(ping.SeqNo)
		}
		return nil
	case msgIndirectPing, msgAck, msgNack: // small structs, of which memberlist decodes what is there
		return nil
	case msgAlive:
		if i.refuted == nil {
			return nil
		}
		var m struct{ Node string }
		if err := i.decode(b[1:], &m); err != nil {
			return fmt.Errorf("alive: %w", err)
		}
		i.refuted(m.Node)
		return nil
	case msgSuspect:
		var m struct{ Node string }
		if err := i.decode(b[1:], &m); err != nil {
			return fmt.Errorf("suspect: %w", err)
		}
		i.suspected(m.Node)
		return nil
	case msgDead:
		var m struct{ Node, From string }
		if err := i.decode(b[1:], &m); err != nil {
			return fmt.Errorf("dead: %w", err)
		}
		if m.Node == m.From {
			i.left(m.Node)
			if i.leaving != nil {
				i.leaving(b)
			}
		}
		return nil
	}
	return fmt.Errorf("packet of type %d", b[0])
}

// pushPullHead and pushPullNode are memberlist's own, field by field.
type pushPullHead struct {
	Nodes        int
	UserStateLen int
	Join         bool
}

type pushPullNode struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Incarnation uint32
	State       int
	Vsn         []uint8
}

const stateLeft = 3 // memberlist.StateLeft

// stream looks at a message of a stream.
func (i *inspector) stream(b []byte) error {
	if len(b) == 0 {
		return errMalformed
	}
	switch b[0] {
	case msgPing, msgAck, msgError:
		if len(b) > 4096 {
			return fmt.Errorf("message of type %d with %d bytes", b[0], len(b))
		}
		return nil
	case msgPushPull:
		return i.pushPull(b[1:])
	}
	return fmt.Errorf("stream message of type %d", b[0])
}

func (i *inspector) pushPull(b []byte) error {
	dec := codec.NewDecoderBytes(b, i.handle)
	var head pushPullHead
	if err := dec.Decode(&head); err != nil {
		return fmt.Errorf("push/pull: %w", err)
	}
	// Members that are gone are still told of for a while.
	if head.Nodes < 0 || head.Nodes > 2*i.maxMembers+16 {
		return fmt.Errorf("push/pull of %d members", head.Nodes)
	}
	if head.UserStateLen < 0 || head.UserStateLen > MaxLocalState {
		return fmt.Errorf("push/pull with %d bytes of state", head.UserStateLen)
	}
	for range head.Nodes {
		var node pushPullNode
		if err := dec.Decode(&node); err != nil {
			return fmt.Errorf("push/pull: %w", err)
		}
		if err := node.check(); err != nil {
			return err
		}
		if node.State == stateLeft {
			i.left(node.Name)
		}
	}
	if rest := len(b) - dec.NumBytesRead(); rest != head.UserStateLen {
		return fmt.Errorf("push/pull with %d bytes of state instead of %d", rest, head.UserStateLen)
	}
	return nil
}

func (n *pushPullNode) check() error {
	switch {
	case n.Name == "" || len(n.Name) > maxMemberID || !utf8.ValidString(n.Name):
		return fmt.Errorf("push/pull with a member whose name has %d bytes", len(n.Name))
	case len(n.Addr) != 4 && len(n.Addr) != 16:
		return fmt.Errorf("push/pull with a member whose address has %d bytes", len(n.Addr))
	case len(n.Meta) > maxMeta:
		return fmt.Errorf("push/pull with a member whose metadata has %d bytes", len(n.Meta))
	case len(n.Vsn) != 6: // memberlist compares them without looking whether they are there
		return fmt.Errorf("push/pull with a member that has %d versions", len(n.Vsn))
	case n.State < 0 || n.State > stateLeft:
		return fmt.Errorf("push/pull with a member in state %d", n.State)
	}
	return nil
}

// ackMsg returns the answer to the ping with that number.
func ackMsg(seqNo uint32) []byte {
	msg := []byte{msgAck}
	var body []byte
	err := codec.NewEncoderBytes(&body, &codec.MsgpackHandle{}).Encode(&struct {
		SeqNo   uint32
		Payload []byte
	}{SeqNo: seqNo})
	if err != nil { // can't be: a struct into memory
		return nil
	}
	return append(msg, body...)
}
