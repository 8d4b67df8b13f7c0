package memberlist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// MapCodec is the codec of *Map[K, V]. The same entries, with the same
// versions, give the same bytes.
type MapCodec[K ~string, V any] struct {
	// Value is the codec of the entries' values. Default codec.JSON[V]{}.
	Value codec.Codec

	// ID is returned by CodecID. Default "map/" and the id of Value.
	ID string
}

// mapFormat is the first byte of an encoded Map.
const mapFormat = 1

// CodecID returns c.ID, or its default.
func (c MapCodec[K, V]) CodecID() string {
	if c.ID != "" {
		return c.ID
	}
	return "map/" + c.value().CodecID()
}

func (c MapCodec[K, V]) value() codec.Codec {
	if c.Value != nil {
		return c.Value
	}
	return codec.JSON[V]{}
}

func (c MapCodec[K, V]) fail(op, reason string, cause error) error {
	return &codec.Error{CodecID: c.CodecID(), Op: op, Reason: reason, Err: cause}
}

// Encode implements codec.Codec.
func (c MapCodec[K, V]) Encode(value any) ([]byte, error) {
	m, ok := value.(*Map[K, V])
	if !ok || m == nil {
		reason := fmt.Sprintf("want a value of type %s that is not nil, got a %T", reflect.TypeFor[*Map[K, V]](), value)
		return nil, c.fail("encode", reason, codec.ErrType)
	}
	values := c.value()
	n := 0
	if m.tree != nil {
		n = m.tree.Len()
	}
	b := make([]byte, 0, 16+64*n)
	b = binary.AppendUvarint(append(b, mapFormat), uint64(n))
	for p := range m.parts() {
		b = appendBytes(b, []byte(p.key))
		b = p.version.Append(b)
		if p.deleted {
			b = append(b, 0)
			continue
		}
		encoded, err := p.encode(values)
		if err != nil {
			return nil, c.fail("encode", "an entry's value can't be encoded", err)
		}
		b = appendBytes(append(b, 1), encoded)
	}
	return b, nil
}

func appendBytes(b, data []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(data))), data...)
}

// Decode implements codec.Codec.
func (c MapCodec[K, V]) Decode(data []byte) (any, error) {
	r := mapReader{rest: data}
	if format := r.byte(); r.err == nil && format != mapFormat {
		return nil, c.fail("decode", fmt.Sprintf("format %d, want %d", format, mapFormat), nil)
	}
	n := r.uvarint()
	m := NewMap[K, V]()
	parts := state.NewTreeBuilder[*part[V]]()
	values := c.value()
	last := ""
	for i := uint64(0); i < n && r.err == nil; i++ {
		p := readPart[V](&r, values)
		if r.err != nil {
			break
		}
		if i > 0 && p.key <= last {
			return nil, c.fail("decode", "the entries are not in ascending order", nil)
		}
		last = p.key
		parts.Set(p.key, p)
		m.add(p)
	}
	switch {
	case r.err != nil:
		return nil, c.fail("decode", fmt.Sprintf("byte %d of %d: %s", len(data)-len(r.rest), len(data), r.reason), r.err)
	case len(r.rest) > 0:
		return nil, c.fail("decode", fmt.Sprintf("%d bytes follow the last entry", len(r.rest)), nil)
	}
	m.tree = parts.Map()
	return m, nil
}

// readPart reads one part. Its memory is its own.
func readPart[V any](r *mapReader, values codec.Codec) *part[V] {
	p := &part[V]{key: string(r.bytes())}
	if !utf8.ValidString(p.key) {
		r.fail("a key is not valid UTF-8", nil)
	}
	version := r.version()
	switch r.byte() {
	case 0:
		p.deleted = true
		p.stamp(version)
		return p
	case 1:
		p.stamp(version)
	default:
		r.fail("an entry is neither a value nor a tombstone", nil)
	}
	encoded := append([]byte{}, r.bytes()...)
	if r.err != nil {
		return p
	}
	value, err := values.Decode(encoded)
	if err != nil {
		r.fail("an entry's value can't be decoded", err)
		return p
	}
	v, ok := value.(V)
	if !ok {
		r.fail(fmt.Sprintf("an entry's value is a %T, want a %s", value, reflect.TypeFor[V]()), codec.ErrType)
	}
	p.value = v
	p.encoded.Store(&encoded)
	return p
}

// mapReader reads an encoded Map, up to the first thing that is wrong.
type mapReader struct {
	rest   []byte
	reason string
	err    error
}

var errMalformed = errors.New("malformed")

func (r *mapReader) fail(reason string, cause error) {
	if r.err == nil {
		if cause == nil {
			cause = errMalformed
		}
		r.reason, r.err = reason, cause
	}
}

func (r *mapReader) byte() byte {
	if r.err != nil || len(r.rest) == 0 {
		r.fail("cut off", nil)
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *mapReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail("cut off, or not a number", nil)
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *mapReader) bytes() []byte {
	n := r.uvarint()
	if r.err == nil && n > uint64(len(r.rest)) {
		r.fail("cut off", nil)
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *mapReader) version() state.Version {
	v, rest, ok := state.DecodeVersion(r.rest)
	if !ok {
		r.fail("cut off", nil)
	}
	if r.err != nil {
		return state.Version{}
	}
	r.rest = rest
	return v
}
