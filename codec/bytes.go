package codec

// Bytes is the codec for values of the Go type []byte: the stored bytes are the value's. Encode and Decode copy, so
// neither side can change the other's bytes. A nil slice is stored as the empty value it is in Go, and an empty value
// is read back as an empty slice that is not nil. Types derived from []byte, such as json.RawMessage, are refused.
type Bytes struct{}

// CodecID returns "bytes".
func (Bytes) CodecID() string { return "bytes" }

// Encode implements [Codec].
func (c Bytes) Encode(value any) ([]byte, error) {
	b, ok := value.([]byte)
	if !ok {
		return nil, wrongType[[]byte](c.CodecID(), value)
	}
	return clone(b), nil
}

// Decode implements [Codec]. It accepts everything.
func (Bytes) Decode(data []byte) (any, error) { return clone(data), nil }

// clone is bytes.Clone with two differences: never nil, and no spare capacity that a cache of values would keep alive.
func clone(b []byte) []byte {
	c := make([]byte, len(b))
	copy(c, b)
	return c
}
