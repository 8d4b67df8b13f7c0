package spread

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// The kinds of messages on a stream. The node that opened it asks, the other
// one answers.
//
// A comparison is begun by msgBegin, answered in kind. The asking node then
// narrows down what differs (msgBuckets, msgKeys), reads what it lacks
// (msgRead), gives what the other one lacks (msgGive), and ends with msgEnd.
// A value that was announced is pulled by msgPull without any of that.
const (
	msgBegin   byte = iota + 1 // who we are and what we hold; answered by msgBegin or msgBusy
	msgBuckets                 // the digests of a codec's buckets; answered in kind
	msgKeys                    // the keys in some buckets; answered by msgKeys..., msgEnd
	msgRead                    // keys, as the asking node has them; answered by msgData..., msgEnd
	msgGive                    // followed by msgData..., msgEnd; answered by msgTaken
	msgTaken                   // what was refused of it
	msgPull                    // one key; answered as msgRead, or by msgBusy
	msgDrop                    // keys, as the answering node has them, that the asking node may have seen and lacks
	msgData                    // records, see recordWriter
	msgEnd                     // of a sequence of messages, or of a comparison
	msgBusy                    // come again later; names nodes that can help
)

// errBusy: the peer serves enough others.
var errBusy = errors.New("the member is busy")

// busyError is errBusy with the instances that can help instead.
type busyError struct{ helpers []byte }

func (e *busyError) Error() string { return errBusy.Error() }
func (e *busyError) Unwrap() error { return errBusy }

// standing is what a node says about itself when a comparison begins.
type standing struct {
	instance uint64
	name     string
	codecs   []state.CodecDigest

	// context is what the node has seen. It is read before the digests of the
	// codecs, so that they are never older.
	context state.Context

	refusals uint64 // of the node's records until then; it isn't sent
}

// maxCodecs bounds the codecs of a node.
const maxCodecs = 1024

func appendStanding(b []byte, s *standing) []byte {
	b = binary.BigEndian.AppendUint64(b, s.instance)
	b = state.AppendBytes(b, s.name)
	b = binary.AppendUvarint(b, uint64(len(s.codecs)))
	for _, c := range s.codecs {
		b = c.Root.Append(state.AppendBytes(b, c.Codec))
	}
	return appendContext(b, &s.context)
}

func decodeStanding(body []byte) (standing, error) {
	d := newDecoder(body)
	s := standing{instance: d.Uint64("instance"), name: string(d.Bytes(maxName, "name"))}
	n := d.Count(1+state.DigestSize, "codecs")
	if n > maxCodecs {
		d.Fail("codecs")
		n = 0
	}
	for range n {
		s.codecs = append(s.codecs, state.CodecDigest{Codec: string(d.Bytes(maxCodec, "codec")), Root: d.Digest("root")})
	}
	s.context = d.context()
	return s, d.Done()
}

// A mark is its version and whether the writer has left.
const markSize = state.VersionSize + 1

func appendContext(b []byte, c *state.Context) []byte {
	b = binary.AppendUvarint(b, uint64(len(c.Marks)))
	for writer, m := range c.Marks {
		m.UpTo.Instance = writer // a mark that is zero has none
		b = state.AppendBool(m.UpTo.Append(b), m.Left)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Dots)))
	for v := range c.Dots {
		b = v.Append(b)
	}
	return b
}

func (d *decoder) context() state.Context {
	c := state.Context{Marks: map[uint64]state.Mark{}, Dots: map[state.Version]struct{}{}}
	n := d.Count(markSize, "marks")
	if n > state.MaxMarks {
		d.Fail("marks")
		return c
	}
	for range n {
		v := d.Version("mark")
		c.Marks[v.Instance] = state.Mark{UpTo: v, Left: d.Bool("mark")}
	}
	if n = d.Count(state.VersionSize, "dots"); n > state.MaxDots {
		d.Fail("dots")
		return c
	}
	for range n {
		c.Dots[d.Version("dot")] = struct{}{}
	}
	return c
}

// The digests of buckets: the answer to msgBuckets, whose own body is the
// codec.
func appendBuckets(b []byte, digests *[state.Buckets]state.Digest) []byte {
	for _, d := range digests {
		b = d.Append(b)
	}
	return b
}

func decodeBuckets(body []byte) (digests [state.Buckets]state.Digest, err error) {
	d := newDecoder(body)
	for i := range digests {
		digests[i] = d.Digest("bucket")
	}
	return digests, d.Done()
}

// The question for the keys in some buckets of a codec.
func appendBucketList(b []byte, codec string, buckets []int) []byte {
	b = state.AppendBytes(b, codec)
	for _, i := range buckets {
		b = append(b, byte(i)) //nolint:gosec // below state.Buckets
	}
	return b
}

func decodeBucketList(body []byte) (codec string, buckets []int, err error) {
	d := newDecoder(body)
	codec = string(d.Bytes(maxCodec, "codec"))
	if len(d.Rest) > state.Buckets {
		d.Fail("buckets")
	}
	for _, i := range d.Rest {
		buckets = append(buckets, int(i))
	}
	return codec, buckets, d.Err
}

// What a key digest has besides its key.
const (
	digestHasE = 1 << iota
	digestHasV
	digestHasDigest
	digestKnown = digestHasE | digestHasV | digestHasDigest
)

// keyDigestSize is at least the size of an encoded key digest.
func keyDigestSize(k *state.KeyDigest) int {
	return 1 + binary.MaxVarintLen16 + len(k.Key) + 2*state.VersionSize + state.DigestSize
}

func appendKeyDigest(b []byte, k *state.KeyDigest) []byte {
	at := len(b)
	b = state.AppendBytes(append(b, 0), k.Key)
	if !k.E.IsZero() {
		b[at] |= digestHasE
		b = k.E.Append(b)
	}
	if !k.V.IsZero() {
		b[at] |= digestHasV
		b = k.V.Append(b)
	}
	if !k.Digest.IsZero() {
		b[at] |= digestHasDigest
		b = k.Digest.Append(b)
	}
	return b
}

func (d *decoder) keyDigest() state.KeyDigest {
	flags := d.Byte("key digest")
	if flags&^digestKnown != 0 {
		d.Fail("flags of a key digest")
	}
	k := state.KeyDigest{Key: string(d.Bytes(maxKey, "key"))}
	if flags&digestHasE != 0 {
		k.E = d.Version("deletion version")
	}
	if flags&digestHasV != 0 {
		k.V = d.Version("version")
	}
	if flags&digestHasDigest != 0 {
		k.Digest = d.Digest("digest")
	}
	return k
}

// decodeKeyDigests reads as many as the message has.
func decodeKeyDigests(d decoder) ([]state.KeyDigest, error) {
	var keys []state.KeyDigest
	for len(d.Rest) > 0 && d.Err == nil {
		keys = append(keys, d.keyDigest())
	}
	return keys, d.Err
}

// A pullRequest asks for one key.
type pullRequest struct {
	instance uint64 // who asks
	codec    string
	size     uint64 // as announced
	have     state.KeyDigest
}

func appendPull(b []byte, p *pullRequest) []byte {
	b = binary.BigEndian.AppendUint64(b, p.instance)
	b = state.AppendBytes(b, p.codec)
	b = binary.AppendUvarint(b, p.size)
	return appendKeyDigest(b, &p.have)
}

func decodePull(body []byte) (pullRequest, error) {
	d := newDecoder(body)
	p := pullRequest{instance: d.Uint64("instance"), codec: string(d.Bytes(maxCodec, "codec")), size: d.Uvarint("size")}
	p.have = d.keyDigest()
	return p, d.Done()
}

// The instances that msgBusy names.
const maxHelpers = 8

func appendInstances(b []byte, instances []uint64) []byte {
	for _, i := range instances {
		b = binary.BigEndian.AppendUint64(b, i)
	}
	return b
}

func decodeInstances(body []byte) ([]uint64, error) {
	d := newDecoder(body)
	var instances []uint64
	for len(d.Rest) > 0 && d.Err == nil && len(instances) < maxHelpers {
		instances = append(instances, d.Uint64("instance"))
	}
	return instances, d.Done()
}

func malformedKind(kind byte, where string) error {
	return fmt.Errorf("%w: kind %d %s", errMalformed, kind, where)
}
