package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// JSON is the codec for values of type T as JSON text, by the rules of encoding/json.
//
// Encode takes a T and nothing else, and Decode returns a T: JSON[Config] works with Config and refuses *Config,
// JSON[*Config] the other way round. Methods of *T, such as MarshalJSON with a pointer receiver, are used for a T too.
// Strings that are not valid UTF-8 lose the offending bytes to U+FFFD on Encode, as encoding/json does it.
//
// Decode accepts exactly one JSON value, with white space around it. Text after it, text that is not valid UTF-8, and
// numbers or strings where T has something else are errors.
//
// It is tolerant otherwise: fields that T doesn't have are ignored, a field given twice counts the last time, and names
// may differ in case. So a newer program may add fields while older ones run; but an older one drops them when it writes
// the value back, and a misspelt field of a value that people write by hand does nothing. [StrictJSON] refuses those.
//
// The JSON text null is refused in both directions, whatever T is: a nil pointer, map, slice or interface can't be
// written, and nothing ever decodes to nil.
type JSON[T any] struct {
	// ID is returned by CodecID. Empty means "json/" and the name of T, as in "json/ring.Desc", which changes when T is
	// renamed or moved to a package of another name; set an ID of your own if programs that differ in this must
	// understand each other by gossip.
	ID string
}

// CodecID returns c.ID, or "json/" and the name of T if that is empty.
func (c JSON[T]) CodecID() string {
	if c.ID != "" {
		return c.ID
	}
	return "json/" + reflect.TypeFor[T]().String()
}

var jsonNull = []byte("null")

// Encode implements [Codec].
func (c JSON[T]) Encode(value any) ([]byte, error) {
	t, ok := value.(T)
	if !ok {
		return nil, wrongType[T](c.CodecID(), value)
	}
	// A pointer, so that methods of *T are found: Decode uses them, and the two must agree.
	data, err := json.Marshal(&t)
	if err != nil {
		return nil, encodeError(c.CodecID(), jsonEncodeReason(err), err)
	}
	if bytes.Equal(data, jsonNull) {
		reason := fmt.Sprintf("want a value of type %s that is not null in JSON, got a %T that is", reflect.TypeFor[T](), value)
		return nil, encodeError(c.CodecID(), reason, ErrType)
	}
	return data, nil
}

// Decode implements [Codec]. Its memory is proportional to the size of data, by a factor that depends on T.
func (c JSON[T]) Decode(data []byte) (any, error) {
	if reason := notJSONValue(data); reason != "" {
		return nil, decodeError(c.CodecID(), reason, nil)
	}
	var t T
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, decodeError(c.CodecID(), jsonDecodeReason[T](err), err)
	}
	return t, nil
}

// notJSONValue says why data is refused whatever the type; empty if nothing is known against it.
func notJSONValue(data []byte) string {
	switch {
	case bytes.Equal(bytes.Trim(data, " \t\r\n"), jsonNull):
		return "null is not a value"
	case !utf8.Valid(data):
		// encoding/json would put U+FFFD there, and the next write would make the loss permanent.
		return "not valid UTF-8"
	}
	return ""
}

// jsonEncodeReason and jsonDecodeReason describe errors of encoding/json, whose own texts quote values.

func jsonEncodeReason(err error) string {
	var (
		marshaler *json.MarshalerError
		kind      *json.UnsupportedTypeError
		value     *json.UnsupportedValueError
	)
	switch {
	case errors.As(err, &marshaler):
		return fmt.Sprintf("the marshalling method of %s failed", marshaler.Type)
	case errors.As(err, &kind):
		return fmt.Sprintf("JSON has no form for the type %s", kind.Type)
	case errors.As(err, &value):
		return "JSON has no form for what the value holds: not a number, an infinity, or a cycle"
	}
	return fmt.Sprintf("cannot be written as JSON (%T)", err)
}

func jsonDecodeReason[T any](err error) string {
	var (
		syntax *json.SyntaxError
		e      *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("not valid JSON, or cut off, at byte %d", syntax.Offset)
	case errors.As(err, &e):
		kind, _, _ := strings.Cut(e.Value, " ") // "number 300" quotes the number
		where := ""
		if e.Field != "" {
			where = " in field " + e.Field
		}
		return fmt.Sprintf("a JSON %s does not fit %s%s at byte %d", kind, e.Type, where, e.Offset)
	}
	return fmt.Sprintf("cannot be read as %s (%T)", reflect.TypeFor[T](), err)
}
