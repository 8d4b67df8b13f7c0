// Package codec turns the values of a key-value client into the bytes that a store keeps, and back.
//
// [String], [Bytes], [JSON], [StrictJSON] and [Proto] cover the usual values; their zero values are ready to use.
// [Compress] puts snappy or zstd around any of them, your own included, and [Encrypt] encryption. [Either] reads several
// formats, so that a stored format can change while programs run.
//
// # Round trips
//
// The codecs of this package keep these rules, and a codec of your own should keep them too:
//
//   - What Encode accepts, Decode gives back: an equal value of the same Go type.
//   - What Decode accepts, Encode accepts: reading a value and writing it back unchanged never fails. The bytes may
//     differ (JSON loses insignificant white space), the value may not. With String and Bytes the bytes are the same.
//   - Equal values give equal bytes, as long as the program is the same build. Stores compare bytes to tell whether
//     anything changed.
//
// # Secrets
//
// A stored value may be a password. No error of this package quotes a value or a part of it: errors name types,
// sizes and byte offsets. What they do name are fields of JSON objects and the ids of keys.
package codec

import (
	"errors"
	"fmt"
	"reflect"
)

// Codec converts between Go values and bytes. The codecs of Cortex and dskit have the same three methods, so either
// kind can be used where the other is expected.
//
// All methods are safe for concurrent use.
type Codec interface {
	// Encode returns value as bytes.
	//
	// A value of another Go type than the codec's is an error that says which type was wanted and which was given,
	// never a panic; nil and a nil pointer of the right type are errors as well.
	//
	// The result is not nil when the error is, though it may be empty. It belongs to the caller: the codec keeps no
	// reference to it and it shares no memory with value, so each may be modified without the other noticing. Encode
	// doesn't modify value, and two calls may run on the same value at once.
	Encode(value any) ([]byte, error)

	// Decode returns the value that data stands for, always of the codec's Go type and never nil: bytes that stand
	// for no value (such as null in JSON) are an error.
	//
	// All of data must be used up; what follows a complete value is an error. Whatever data holds, Decode doesn't
	// panic, and the memory it takes is bounded by the size of data, or by a limit that the codec documents.
	//
	// Decode neither modifies data nor keeps it, nor does the value alias it: the caller may reuse the slice at once.
	// Each call returns a value of its own, which belongs to the caller.
	Decode(data []byte) (any, error)

	// CodecID names the format and the type of the values, and is the same in every process and on every call. Gossip
	// sends it beside the bytes and the receiver looks the codec up by it, so two codecs with one id must read each
	// other's bytes.
	CodecID() string
}

// Errors that the codecs of this package wrap, to be matched with [errors.Is].
var (
	// ErrType says that the value handed to Encode isn't one of the codec's Go type, or is nil.
	ErrType = errors.New("wrong type of value")

	// ErrSizeLimit says that a value is larger, uncompressed, than the limit of a [Compress] codec.
	ErrSizeLimit = errors.New("uncompressed size over the limit")
)

// Error is the error of every Encode and Decode in this package.
type Error struct {
	CodecID string
	Op      string // "encode" or "decode"
	Reason  string // what is wrong, without quoting the value

	// Err is the cause, for errors.Is and errors.As; it may be nil. Unlike Reason, the text of a cause from another
	// package may quote the value, which is why Error leaves it out.
	Err error
}

func (e *Error) Error() string {
	return "codec " + e.CodecID + ": " + e.Op + ": " + e.Reason
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func encodeError(id, reason string, cause error) error {
	return &Error{CodecID: id, Op: "encode", Reason: reason, Err: cause}
}

func decodeError(id, reason string, cause error) error {
	return &Error{CodecID: id, Op: "decode", Reason: reason, Err: cause}
}

// wrongType is the error for a value that isn't a T.
func wrongType[T any](id string, got any) error {
	gotType := "nil"
	if got != nil {
		gotType = fmt.Sprintf("%T", got)
	}
	return encodeError(id, fmt.Sprintf("want a value of type %s, got %s", reflect.TypeFor[T](), gotType), ErrType)
}
