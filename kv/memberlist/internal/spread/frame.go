package spread

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// The kinds of frames, which are datagrams. Every frame begins with the wire
// version, its kind and the instance of a node: of the one it comes from, or,
// for framePush and frameTail, of the one whose changes it tells of.
const (
	framePush    byte = iota + 1 // changes, numbered by their origin
	frameTail                    // the numbers of last frames, after a pause and to new members
	frameAsk                     // frames of the receiver that the sender misses
	frameGone                    // frames that were asked for and are forgotten
	frameCheck                   // the sender's digests, please answer with yours
	frameRoots                   // the answer
	frameRefused                 // changes of the receiver whose versions are too far ahead
)

// kindNames are for the status page and for metric labels.
var kindNames = map[byte]string{
	framePush: "push", frameTail: "tail", frameAsk: "ask", frameGone: "gone",
	frameCheck: "check", frameRoots: "roots", frameRefused: "refused",
}

// frameHeader is the size of what every frame begins with.
const frameHeader = 2 + 8

func appendHeader(b []byte, kind byte, instance uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, wireVersion, kind), instance)
}

// decodeHeader leaves the decoder at the frame's body.
func decodeHeader(frame []byte) (kind byte, instance uint64, d decoder) {
	d = newDecoder(frame)
	if v := d.Byte("version"); d.Err == nil && v != wireVersion {
		d.Fail(fmt.Sprintf("version %d, want %d", v, wireVersion))
	}
	kind = d.Byte("kind")
	instance = d.Uint64("instance")
	return kind, instance, d
}

// What the flags of a push or a tail say.
const (
	pushRelay  = 1 << iota // hand it on to others
	pushBehind             // the origin could not send everything: compare with it
	pushKnown  = pushRelay | pushBehind
)

// A push is the body of framePush. That of frameTail begins in the same way,
// and goes on with the newest frames of other origins that its sender has seen
// lately.
type push struct {
	seq   uint64
	flags byte
	items decoder // for nextItem
	codec string
}

func appendPush(b []byte, seq uint64, flags byte) []byte {
	return append(binary.AppendUvarint(b, seq), flags)
}

// pushOverhead is at least the size of a push without items.
const pushOverhead = frameHeader + binary.MaxVarintLen64 + 1

func decodePush(d decoder) (push, error) {
	p := push{seq: d.Uvarint("sequence"), flags: d.Byte("flags")}
	if d.Err == nil && p.flags&^pushKnown != 0 {
		d.Fail("flags")
	}
	p.items = d
	return p, d.Err
}

// A lastFrame is the newest frame of an origin.
type lastFrame struct {
	instance uint64
	seq      uint64
}

// maxLastFrames bounds the origins that one frame tells of.
const maxLastFrames = 64

func appendLastFrames(b []byte, frames []lastFrame) []byte {
	for _, f := range frames {
		b = binary.AppendUvarint(binary.BigEndian.AppendUint64(b, f.instance), f.seq)
	}
	return b
}

func (p *push) lastFrames() ([]lastFrame, error) {
	d := &p.items
	var frames []lastFrame
	for len(d.Rest) > 0 && d.Err == nil {
		if len(frames) == maxLastFrames {
			d.Fail("last frames")
			break
		}
		frames = append(frames, lastFrame{d.Uint64("instance"), d.Uvarint("sequence")})
	}
	return frames, d.Err
}

// next returns the next item. more is false after the last one.
func (p *push) next() (it item, more bool, err error) {
	if len(p.items.Rest) == 0 {
		return item{}, false, p.items.Err
	}
	it = decodeItem(&p.items, p.codec, len(p.items.Rest))
	p.codec = it.Codec
	return it, true, p.items.Err
}

// appendSpan is the body of frameGone; spans, of which a frame of frameAsk
// has up to maxSpans, follow each other.
func appendSpan(b []byte, s span) []byte {
	b = binary.AppendUvarint(b, s.from)
	return binary.AppendUvarint(b, s.to-s.from)
}

const maxSpans = 64

func decodeSpans(d decoder) ([]span, error) {
	var spans []span
	for len(d.Rest) > 0 && d.Err == nil {
		from, more := d.Uvarint("span"), d.Uvarint("span")
		if from == 0 || more > windowSize || len(spans) == maxSpans {
			d.Fail("span")
			break
		}
		spans = append(spans, span{from, from + more})
	}
	return spans, d.Err
}

// A refusal names what was refused, and the clock by which it was.
type refusal struct {
	clock  time.Time
	keys   []refusedKey
	failed bool // something was not taken, for whatever reason; doesn't travel
}

type refusedKey struct {
	key  string
	e, v state.Version
}

const maxRefused = 16

func appendRefusal(b []byte, r refusal) []byte {
	b = binary.AppendUvarint(b, uint64(r.clock.UnixMilli())) //nolint:gosec // after 1970
	for _, k := range r.keys {
		b = k.v.Append(k.e.Append(state.AppendBytes(b, k.key)))
	}
	return b
}

func decodeRefusal(d decoder) (refusal, error) {
	r := refusal{clock: d.wall("clock")}
	for len(d.Rest) > 0 && d.Err == nil {
		if len(r.keys) == maxRefused {
			d.Fail("refused keys")
			break
		}
		k := refusedKey{key: string(d.Bytes(maxKey, "key"))}
		k.e, k.v = d.Version("deletion version"), d.Version("version")
		r.keys = append(r.keys, k)
	}
	return r, d.Err
}

// wall reads a time in milliseconds, of 48 bits as in a version.
func (d *decoder) wall(what string) time.Time {
	ms := d.Uvarint(what)
	if ms >= 1<<48 {
		d.Fail(what)
		return time.Time{}
	}
	return time.UnixMilli(int64(ms)) //nolint:gosec // 48 bits
}
