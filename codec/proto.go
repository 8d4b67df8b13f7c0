package codec

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// Proto is the codec for protocol buffer messages of type T, the pointer type that protoc-gen-go generated, as in
// Proto[*pb.Config]. Encode takes a T that is not nil and Decode returns one.
//
// Encoding is deterministic: equal messages give equal bytes, maps included, as long as the program is the same build.
// Fields that T doesn't know are kept by Decode and written again by Encode, so a program of an older schema
// doesn't drop them. A message with nothing set is the empty value.
//
// Interfaces and dynamicpb.Message don't say which message is meant; as T they make every Encode and Decode an error.
type Proto[T proto.Message] struct {
	// ID is returned by CodecID. Empty means "proto/" and the full name of the message, as in "proto/ring.Desc".
	ID string
}

// CodecID returns c.ID, or "proto/" and the full name of the message if that is empty.
func (c Proto[T]) CodecID() string {
	if c.ID != "" {
		return c.ID
	}
	if !isGenerated[T]() {
		return "proto/" + reflect.TypeFor[T]().String()
	}
	var none T
	return "proto/" + string(none.ProtoReflect().Descriptor().FullName())
}

// Encode implements [Codec].
func (c Proto[T]) Encode(value any) ([]byte, error) {
	m, ok := value.(T)
	if !ok {
		return nil, wrongType[T](c.CodecID(), value)
	}
	if !isGenerated[T]() {
		return nil, encodeError(c.CodecID(), notGenerated[T](), ErrType)
	}
	if !m.ProtoReflect().IsValid() {
		reason := fmt.Sprintf("want a value of type %s that is not nil, got a nil one", reflect.TypeFor[T]())
		return nil, encodeError(c.CodecID(), reason, ErrType)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, encodeError(c.CodecID(), err.Error(), err)
	}
	return data, nil
}

// Decode implements [Codec]. Its memory is proportional to the size of data.
func (c Proto[T]) Decode(data []byte) (any, error) {
	if !isGenerated[T]() {
		return nil, decodeError(c.CodecID(), notGenerated[T](), nil)
	}
	var none T
	m := none.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(data, m); err != nil {
		// The errors of this library name fields and extensions, never what they hold.
		return nil, decodeError(c.CodecID(), err.Error(), err)
	}
	return m, nil
}

// isGenerated tells whether a nil T knows its message. An interface doesn't, and neither does dynamicpb.Message, which
// is recognised by being its own reflection.
func isGenerated[T proto.Message]() bool {
	var none T
	if any(none) == nil {
		return false
	}
	_, dynamic := none.ProtoReflect().(T)
	return !dynamic
}

func notGenerated[T proto.Message]() string {
	return fmt.Sprintf("%s is not the pointer type of a generated message", reflect.TypeFor[T]())
}
