package multi

import (
	"errors"
	"fmt"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// outcome is what a write did, as far as it knows.
type outcome struct {
	wrote  bool
	change *side.Change // before and after; nil: not known
}

// capture is a CAS on a store's bytes that keeps what it changes. Made on
// values, it would have to encode them once more to know the bytes.
type capture struct {
	client kv.Client    // of bytes
	codec  codec.Codec  // of the caller's values; nil: they are bytes
	change *side.Change // what the last call of the callback that writes decided
}

// capturable reports whether what a write on r changes would be of use.
func (v *view) capturable(r *route, key string) bool {
	return !kv.Reserved(key) && v.core.owner == nil && v.core.mirror.takes(other(r.at))
}

// capture returns how to make a CAS on r whose change is of use; nil if none is.
func (v *view) capture(r *route, key string) *capture {
	s := v.stores[r.at]
	switch {
	case s.raw == nil, !v.capturable(r, key):
		return nil
	case v.raw:
		return &capture{client: s.raw}
	case s.coded == nil:
		return nil
	}
	return &capture{client: s.raw, codec: s.coded}
}

// callback makes f one on bytes.
func (n *capture) callback(f casFunc) casFunc {
	return func(in any) (any, bool, error) {
		before, value, err := n.open(in)
		if err != nil {
			return nil, false, err
		}
		out, retry, err := f(value)
		if err != nil || out == nil || out == kv.Remove && in == nil {
			return nil, retry, err
		}
		n.change = &side.Change{Before: before}
		if out == kv.Remove {
			return out, retry, nil
		}
		n.change.After, err = n.seal(out)
		return n.change.After, false, err
	}
}

// open returns what the store holds, and the value for the callback, which may
// modify it. Both are nil if the key is absent.
func (n *capture) open(in any) (before []byte, value any, err error) {
	if in == nil {
		return nil, nil, nil
	}
	before, ok := in.([]byte)
	switch {
	case !ok:
		return nil, nil, fmt.Errorf("the raw view returned a %T instead of bytes", in)
	case n.codec == nil:
		return append([]byte{}, before...), in, nil
	}
	value, err = decode(n.codec, before)
	return before, value, err
}

// decode returns the value that data stands for, never nil.
func decode(c codec.Codec, data []byte) (value any, err error) {
	if value, err = c.Decode(data); err == nil && value == nil {
		err = errors.New("the value decodes to nil")
	}
	if err != nil {
		return nil, fmt.Errorf("the stored value can't be decoded with codec %q: %w", c.CodecID(), err)
	}
	return value, nil
}

// seal returns what the store shall hold, in bytes that nobody modifies: the
// store's client copies what it is given.
func (n *capture) seal(out any) ([]byte, error) {
	cdc := n.codec
	if cdc == nil {
		cdc = codec.Bytes{}
	}
	encoded, err := cdc.Encode(out)
	if err != nil {
		return nil, fmt.Errorf("the value can't be encoded with codec %q: %w", cdc.CodecID(), err)
	}
	if encoded == nil { // a codec of somebody's own
		encoded = []byte{}
	}
	return encoded, nil
}
