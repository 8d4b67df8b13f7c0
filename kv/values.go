package kv

import (
	"fmt"

	"github.com/polykv/polykv/kv/driver"
)

// stored is a value as the store has it: bytes, or an object of a
// [driver.ValueStore].
type stored struct {
	bytes  []byte
	object any
}

func storedIn(entry driver.Entry) stored { return stored{entry.Value, entry.Object} }

// open returns the value that s stands for, never nil. It may be shared unless
// private.
func (c *client) open(s stored, private bool) (any, error) {
	if c.values != nil {
		return c.values.Value(s.object, private)
	}
	value, err := c.codec.Decode(s.bytes)
	if err != nil {
		return nil, fmt.Errorf("the stored value can't be decoded with codec %q: %w", c.codec.CodecID(), err)
	}
	if value == nil {
		return nil, fmt.Errorf("the stored value decodes to nil with codec %q", c.codec.CodecID())
	}
	return value, nil
}

// seal returns what to store of a value that shall replace prev, within the
// limit. prev is the zero stored if the key is absent.
func (c *client) seal(key string, prev stored, value any, guarded bool) (stored, error) {
	limit := c.engine.limits.Value
	if guarded {
		limit = c.engine.limits.GuardedValue
	}
	if c.values != nil {
		object, err := c.values.Object(key, prev.object, value, limit)
		return stored{object: object}, err
	}
	encoded, err := c.codec.Encode(value)
	if err != nil {
		return stored{}, fmt.Errorf("the value can't be encoded with codec %q: %w", c.codec.CodecID(), err)
	}
	if limit > 0 && len(encoded) > limit {
		return stored{}, fmt.Errorf("%w: the encoded value is %d bytes, at most %d are allowed", ErrTooLarge, len(encoded), limit)
	}
	return stored{bytes: encoded}, nil
}

// sealRemoval returns what stands for the absence of a key that was at prev.
// Only an object has something to say of that.
func (c *client) sealRemoval(key string, prev stored) (stored, error) {
	if c.values == nil {
		return stored{}, nil
	}
	object, err := c.values.Object(key, prev.object, nil, 0)
	return stored{object: object}, err
}

// sum stands for a value that is stored.
func (c *client) sum(s stored) digest {
	if c.values != nil {
		return c.values.Sum(s.object)
	}
	return digestOf(s.bytes)
}
