package network

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

func encodeMsg(t testing.TB, kind byte, v any) []byte {
	t.Helper()
	var body []byte
	if err := codec.NewEncoderBytes(&body, &codec.MsgpackHandle{}).Encode(v); err != nil {
		t.Fatal(err)
	}
	return append([]byte{kind}, body...)
}

func compound(parts ...[]byte) []byte {
	b := []byte{msgCompound, byte(len(parts))}
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	return append(b, bytes.Join(parts, nil)...)
}

// seen is an inspector that notes what it is told.
type seen struct {
	inspector
	notes []string
}

func newSeen() *seen {
	s := &seen{}
	s.inspector = inspector{
		handle:     &codec.MsgpackHandle{},
		maxMembers: 10,
		left:       func(id string) { s.notes = append(s.notes, "left "+id) },
		suspected:  func(id string) { s.notes = append(s.notes, "suspected "+id) },
		refuted:    func(id string) { s.notes = append(s.notes, "refuted "+id) },
	}
	return s
}

type deadMsg struct {
	Incarnation uint32
	Node, From  string
}

func TestInspectorTellsWhatMembershipMessagesSay(t *testing.T) {
	left := encodeMsg(t, msgDead, deadMsg{1, "a/1", "a/1"})
	failed := encodeMsg(t, msgDead, deadMsg{1, "b/1", "c/1"})
	suspect := encodeMsg(t, msgSuspect, deadMsg{1, "d/1", "c/1"})
	alive := encodeMsg(t, msgAlive, deadMsg{1, "e/1", ""})
	s := newSeen()
	for _, packet := range [][]byte{
		left, failed, compound(suspect, alive),
		append([]byte{msgHasCRC, 0, 0, 0, 0}, compound(left)...), ackMsg(7),
	} {
		if err := s.packet(packet); err != nil {
			t.Errorf("%q: %v", packet, err)
		}
	}
	want := []string{"left a/1", "suspected d/1", "refuted e/1", "left a/1"}
	if !slices.Equal(s.notes, want) {
		t.Errorf("notes %q, want %q", s.notes, want)
	}
}

func TestInspectorRefusesWhatMemberlistCantBear(t *testing.T) {
	ping := encodeMsg(t, msgPing, struct{ SeqNo uint32 }{1})
	const user, compress, encrypt, label = 8, 9, 10, 244
	for name, packet := range map[string][]byte{
		"empty":                 {},
		"only a checksum":       {msgHasCRC, 0, 0, 0, 0},
		"user message":          {user, 1, 2, 3},
		"compressed":            {compress, 1, 2, 3},
		"encrypted":             {encrypt, 1, 2, 3},
		"labelled":              {label, 1, 'x'},
		"push/pull in a packet": {msgPushPull, 1},
		"compound in compound":  compound(compound(ping)),
		"user in compound":      compound(ping, []byte{user, 1}),
		"empty part":            compound(ping, nil),
		"compound cut short":    compound(ping, ping)[:8],
		"compound of nothing":   {msgCompound},
		"suspect of rubbish":    {msgSuspect, 0xc1},
		"dead of rubbish":       {msgDead, 0xdd, 0xff, 0xff, 0xff, 0xff},
	} {
		if err := newSeen().packet(packet); err == nil {
			t.Errorf("packet %s is let through", name)
		}
	}
	for name, message := range map[string][]byte{
		"empty": {}, "user message": {user, 1}, "compressed": {compress, 1}, "compound": compound(ping),
		"large ping": append(slices.Clone(ping), make([]byte, 5000)...), "push/pull of nothing": {msgPushPull},
	} {
		if err := newSeen().stream(message); err == nil {
			t.Errorf("stream message %s is let through", name)
		}
	}
}

// pushPull is a message with these members, as memberlist encodes it.
func pushPull(t testing.TB, head pushPullHead, state []byte, nodes ...pushPullNode) []byte {
	t.Helper()
	b := encodeMsg(t, msgPushPull, &head)
	for i := range nodes {
		b = append(b, encodeMsg(t, 0, &nodes[i])[1:]...)
	}
	return append(b, state...)
}

func goodNode() pushPullNode {
	return pushPullNode{Name: "a/1", Addr: []byte{10, 0, 0, 1}, Port: 1, Meta: []byte("m"), Incarnation: 1, Vsn: []uint8{1, 5, 2, 1, 1, 1}}
}

func TestInspectorBoundsPushPull(t *testing.T) {
	one := pushPullHead{Nodes: 1}
	s := newSeen()
	gone := goodNode()
	gone.State = stateLeft
	good := pushPull(t, pushPullHead{Nodes: 2, UserStateLen: 3, Join: true}, []byte("abc"), goodNode(), gone)
	if err := s.stream(good); err != nil || !slices.Equal(s.notes, []string{"left a/1"}) {
		t.Errorf("a good one: %v, notes %q", err, s.notes)
	}
	for n := range good {
		if err := newSeen().stream(good[:n]); err == nil {
			t.Errorf("the first %d bytes of a good one are let through", n)
		}
	}
	change := func(f func(*pushPullNode)) pushPullNode {
		n := goodNode()
		f(&n)
		return n
	}
	for name, message := range map[string][]byte{
		"a bomb of members":     pushPull(t, pushPullHead{Nodes: 1 << 20}, nil),
		"more than announced":   pushPull(t, one, []byte("x"), goodNode()),
		"negative":              pushPull(t, pushPullHead{Nodes: -1}, nil),
		"a bomb of state":       pushPull(t, pushPullHead{UserStateLen: 20 << 20}, nil),
		"negative state":        pushPull(t, pushPullHead{UserStateLen: -1}, nil),
		"too much state":        pushPull(t, pushPullHead{UserStateLen: MaxLocalState + 1}, make([]byte, MaxLocalState+1)),
		"a member without name": pushPull(t, one, nil, change(func(n *pushPullNode) { n.Name = "" })),
		"a long name":           pushPull(t, one, nil, change(func(n *pushPullNode) { n.Name = strings.Repeat("x", 200) })),
		"a name of rubbish":     pushPull(t, one, nil, change(func(n *pushPullNode) { n.Name = "\xff" })),
		"a strange address":     pushPull(t, one, nil, change(func(n *pushPullNode) { n.Addr = []byte{1} })),
		"much metadata":         pushPull(t, one, nil, change(func(n *pushPullNode) { n.Meta = make([]byte, 513) })),
		"no versions":           pushPull(t, one, nil, change(func(n *pushPullNode) { n.Vsn = nil })),
		"an unknown state":      pushPull(t, one, nil, change(func(n *pushPullNode) { n.State = 9 })),
	} {
		if err := newSeen().stream(message); err == nil {
			t.Errorf("push/pull with %s is let through", name)
		}
	}
}
