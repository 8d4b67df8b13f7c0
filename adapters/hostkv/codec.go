package hostkv

import (
	"fmt"
	"time"

	"github.com/polykv/polykv/codec"
)

// Mergeable is what the values of a host that merge can do, beside being
// cloned. M is the host's own interface of them.
type Mergeable[M any] interface {
	Merge(other M, localCAS bool) (change M, err error)
	MergeContent() []string
	RemoveTombstones(limit time.Time) (total, removed int)
}

// Codec makes a codec of polykv of a host's. The bytes are the host's, so that
// clients of both can share a store. The values are the host's too, except
// that those which merge are each in a [Value]; [View] takes them out again.
//
// It serves every store. All fields must be set before it is used, and may not
// be changed afterwards. It is used as a pointer.
type Codec[M Mergeable[M]] struct {
	// Host is the host's codec.
	Host codec.Codec

	// Marshal is Encode of Host, except that equal values give equal bytes:
	// stores compare bytes to tell whether anything changed.
	Marshal func(value any) ([]byte, error)

	// Clone returns a copy that shares no memory with value.
	Clone func(value M) M
}

// hostCodec is a Codec, whatever its M.
type hostCodec interface {
	codec.Codec
	wrap(value any) any
	bare(value any, private bool) (any, error)
}

// CodecID implements codec.Codec: it is the host's.
func (c *Codec[M]) CodecID() string { return c.Host.CodecID() }

// Encode implements codec.Codec. It takes values of the host as well as those
// that Decode returns.
func (c *Codec[M]) Encode(value any) (data []byte, err error) {
	if v, ok := value.(*Value[M]); ok {
		if v == nil {
			return nil, fmt.Errorf("codec %q: the value is a nil %T", c.CodecID(), v)
		}
		value = v.held
	}
	defer c.recovered(&err, "encode", value)
	if data, err = c.Marshal(value); err == nil && data == nil {
		data = []byte{}
	}
	return data, err
}

// Decode implements codec.Codec.
func (c *Codec[M]) Decode(data []byte) (value any, err error) {
	defer c.recovered(&err, "decode", data)
	if value, err = c.Host.Decode(data); err != nil {
		return nil, err
	}
	return c.wrap(value), nil
}

// recovered turns a panic into an error: the hosts' codecs assert the type of
// what they are given. The value isn't told, as it may be secret.
func (c *Codec[M]) recovered(err *error, what string, of any) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("codec %q can't %s a %T", c.CodecID(), what, of)
	}
}

// wrap puts a value that merges into a Value.
func (c *Codec[M]) wrap(value any) any {
	if m, ok := value.(M); ok {
		return &Value[M]{held: m, codec: c}
	}
	return value
}

// bare returns a value as the host knows it, without what was removed from
// it. It is the caller's own; private says that value is too.
func (c *Codec[M]) bare(value any, private bool) (any, error) {
	switch v := value.(type) {
	case *Value[M]:
		held := v.held
		if !private {
			held = c.Clone(held)
		}
		held.RemoveTombstones(time.Time{})
		return held, nil
	case string:
		return v, nil
	}
	if private {
		return value, nil
	}
	data, err := c.Encode(value)
	if err != nil {
		return nil, err
	}
	return c.Host.Decode(data)
}

// Equal returns what compares two encoded values of c for multi.Backend: they
// are equal if a program of the host sees no difference. Hosts hide what was
// removed from a value, and so some stores have it and others don't.
func (c *Codec[M]) Equal(a, b []byte) bool {
	if string(a) == string(b) {
		return true
	}
	seenA, errA := c.seen(a)
	seenB, errB := c.seen(b)
	return errA == nil && errB == nil && string(seenA) == string(seenB)
}

// seen returns the encoding of what a program of the host sees of data.
func (c *Codec[M]) seen(data []byte) ([]byte, error) {
	value, err := c.Decode(data)
	if err != nil {
		return nil, err
	}
	if value, err = c.bare(value, true); err != nil {
		return nil, err
	}
	return c.Encode(value)
}
