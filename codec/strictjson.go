package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// StrictJSON is [JSON] for values that people write by hand, where a field that does nothing is a mistake: Decode
// refuses fields that T doesn't have, and names the first one, and a name that is given twice in one object. Types with
// an UnmarshalJSON of their own decide themselves what they refuse, duplicates excepted. Names may still differ in case.
//
// It writes what JSON writes and has the same CodecID, so programs may change from one to the other at any time. A
// program with StrictJSON can't read the values of a newer one that has more fields: roll out reading before writing.
type StrictJSON[T any] struct {
	// ID is returned by CodecID; empty means the same as in JSON.
	ID string
}

// CodecID returns c.ID, or "json/" and the name of T if that is empty.
func (c StrictJSON[T]) CodecID() string { return JSON[T](c).CodecID() }

// Encode implements [Codec].
func (c StrictJSON[T]) Encode(value any) ([]byte, error) { return JSON[T](c).Encode(value) }

// Decode implements [Codec]. Its memory is proportional to the size of data, by a factor that depends on T.
func (c StrictJSON[T]) Decode(data []byte) (any, error) {
	if reason := notJSONValue(data); reason != "" {
		return nil, decodeError(c.CodecID(), reason, nil)
	}
	var t T
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&t); err != nil {
		return nil, decodeError(c.CodecID(), strictReason[T](err, len(data)), err)
	}
	end := decoder.InputOffset()
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, decodeError(c.CodecID(), fmt.Sprintf("something follows the value, after byte %d", end), nil)
	}
	if name, at := duplicateName(data); at > 0 {
		return nil, decodeError(c.CodecID(), fmt.Sprintf("the field %s is given a second time, before byte %d", nameForError(name), at), nil)
	}
	return t, nil
}

// strictReason is jsonDecodeReason for a decoder, which says some things in other words than json.Unmarshal.
func strictReason[T any](err error, size int) string {
	if quoted, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name, _ := strconv.Unquote(quoted) // empty if that library changes its words
		return fmt.Sprintf("%s has no field %s", reflect.TypeFor[T](), nameForError(name))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("not valid JSON, or cut off, at byte %d", size)
	}
	return jsonDecodeReason[T](err)
}

// nameForError quotes a name that looks like one.
func nameForError(name string) string {
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "of the name it is given"
	}
	return fmt.Sprintf("%q", name)
}

// duplicateName returns the first name that is given twice in one object of data, which is valid JSON, and the byte
// after it; 0 if there is none.
func duplicateName(data []byte) (name string, at int64) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var open []map[string]bool // the names so far of each object that is open; nil for an array
	isName := false
	for {
		token, err := decoder.Token()
		if err != nil {
			return "", 0
		}
		switch text, _ := token.(string); {
		case token == json.Delim('{'):
			open = append(open, map[string]bool{})
		case token == json.Delim('['):
			open = append(open, nil)
		case token == json.Delim('}'), token == json.Delim(']'):
			open = open[:len(open)-1]
		case isName:
			names := open[len(open)-1]
			if names[text] {
				return text, decoder.InputOffset()
			}
			names[text] = true
			isName = false
			continue
		}
		isName = len(open) > 0 && open[len(open)-1] != nil
	}
}
