package codec

// String is the codec for values of the Go type string: the stored bytes are the string's, unchanged, whether or not
// they are valid UTF-8. No bytes at all are the empty string. Types derived from string are refused.
type String struct{}

// CodecID returns "string".
func (String) CodecID() string { return "string" }

// Encode implements [Codec].
func (c String) Encode(value any) ([]byte, error) {
	s, ok := value.(string)
	if !ok {
		return nil, wrongType[string](c.CodecID(), value)
	}
	return []byte(s), nil
}

// Decode implements [Codec]. It accepts everything.
func (String) Decode(data []byte) (any, error) { return string(data), nil }
