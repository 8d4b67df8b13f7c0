package memberlist

import (
	"encoding/binary"
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
	n := m.root().Len()
	b := make([]byte, 0, 16+64*n)
	b = binary.AppendUvarint(append(b, mapFormat), uint64(n))
	for p := range m.parts() {
		b = state.AppendBytes(b, p.key)
		b = p.version.Append(b)
		if p.deleted {
			b = append(b, 0)
			continue
		}
		encoded, err := p.encode(values)
		if err != nil {
			return nil, c.fail("encode", "an entry's value can't be encoded", err)
		}
		b = state.AppendBytes(append(b, 1), encoded)
	}
	return b, nil
}

// Decode implements codec.Codec.
func (c MapCodec[K, V]) Decode(data []byte) (any, error) {
	d := state.Decoder{Rest: data}
	if format := d.Byte("format"); d.Err == nil && format != mapFormat {
		return nil, c.fail("decode", fmt.Sprintf("format %d, want %d", format, mapFormat), nil)
	}
	n := d.Uvarint("number of entries")
	m := NewMap[K, V]()
	parts := state.NewTreeBuilder[*part[V]]()
	values := c.value()
	last := ""
	for i := uint64(0); i < n && d.Err == nil; i++ {
		p, err := c.decodePart(&d, values)
		if err != nil {
			return nil, err
		}
		if i > 0 && p.key <= last {
			d.Fail("the order of the entries")
		}
		last = p.key
		parts.Set(p.key, p)
		m.add(p)
	}
	if err := d.Done(); err != nil {
		return nil, c.fail("decode", err.Error(), err) // which quotes no value
	}
	m.tree = parts.Map()
	return m, nil
}

// decodePart reads one part. Its memory is its own.
func (c MapCodec[K, V]) decodePart(d *state.Decoder, values codec.Codec) (*part[V], error) {
	p := &part[V]{key: string(d.Bytes(len(d.Rest), "key of an entry"))}
	if !utf8.ValidString(p.key) {
		d.Fail("key of an entry")
	}
	version := d.Version("version of an entry")
	p.deleted = !d.Bool("kind of an entry")
	p.stamp(version)
	if p.deleted {
		return p, nil
	}
	encoded := append([]byte{}, d.Bytes(len(d.Rest), "value of an entry")...)
	if d.Err != nil {
		return p, nil
	}
	value, err := values.Decode(encoded)
	if err != nil {
		return nil, c.fail("decode", "an entry's value can't be decoded", err)
	}
	v, ok := value.(V)
	if !ok {
		return nil, c.fail("decode", fmt.Sprintf("an entry's value is a %T, want a %s", value, reflect.TypeFor[V]()), codec.ErrType)
	}
	p.value = v
	p.encoded.Store(&encoded)
	return p, nil
}
