package codec_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
)

func TestJSONDecodeIsStrict(t *testing.T) {
	type inner struct {
		Port int8 `json:"port"`
	}
	type outer struct {
		Inner inner `json:"inner"`
	}
	for _, test := range []struct {
		name  string
		codec codec.Codec
		data  string
		want  string // a part of the error
	}{
		{"nothing", codec.JSON[member]{}, ``, "byte 0"},
		{"cut off", codec.JSON[member]{}, `{"name":"hunter2`, "not valid JSON, or cut off, at byte 16"},
		{"trailing value", codec.JSON[member]{}, `{"name":"hunter2"}{}`, "at byte 19"},
		{"trailing garbage", codec.JSON[member]{}, `{"name":"hunter2"}x`, "at byte 19"},
		{"two numbers", codec.JSON[int]{}, `1 2`, "at byte 3"},
		{"invalid UTF-8", codec.JSON[member]{}, "{\"name\":\"hunter2\xff\"}", "not valid UTF-8"},
		{"null", codec.JSON[member]{}, `null`, "null is not a value"},
		{"null in white space", codec.JSON[*member]{}, " \r\n\tnull\n", "null is not a value"},
		{"null as any", codec.JSON[any]{}, `null`, "null is not a value"},
		{"null as slice", codec.JSON[[]int]{}, `null`, "null is not a value"},
		{"null as raw", codec.JSON[json.RawMessage]{}, `null`, "null is not a value"},
		{"wrong kind", codec.JSON[member]{}, `"hunter2"`, "a JSON string does not fit codec_test.member at byte 9"},
		{"overflow", codec.JSON[outer]{}, `{"inner":{"port":31337}}`, "a JSON number does not fit int8 in field inner.port at byte"},
		{"method", codec.JSON[time.Time]{}, `"hunter2"`, "cannot be read as time.Time"},
		{"deep", codec.JSON[any]{}, strings.Repeat("[", 1<<20), "at byte"},
	} {
		t.Run(test.name, func(t *testing.T) {
			value, err := test.codec.Decode([]byte(test.data))
			if err == nil {
				t.Fatalf("decoded as %#v", value)
			}
			var e *codec.Error
			if !errors.As(err, &e) || e.Op != "decode" || e.CodecID != test.codec.CodecID() {
				t.Errorf("not a codec.Error of this codec: %#v", err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q in it", err, test.want)
			}
			for _, part := range []string{"hunter2", "31337"} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("the error quotes the value: %v", err)
				}
			}
		})
	}
}

func TestJSONCauseIsMatchable(t *testing.T) {
	_, err := codec.JSON[int]{}.Decode([]byte(`{`))
	if syntax := new(json.SyntaxError); !errors.As(err, &syntax) {
		t.Errorf("got %#v", err)
	}
	_, err = codec.JSON[int]{}.Decode([]byte(`""`))
	if kind := new(json.UnmarshalTypeError); !errors.As(err, &kind) {
		t.Errorf("got %#v", err)
	}
}

func TestJSONDecodeIsLenient(t *testing.T) {
	want := member{Name: "one", Port: 7}
	for _, data := range []string{
		`{"name":"one","port":7}`,
		" \r\n\t{\"name\" : \"one\", \"port\" : 7}\n",
		`{"name":"one","port":7,"added_later":{"x":null}}`,
	} {
		if got := mustDecode(t, codec.JSON[member]{}, []byte(data)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v", data, got)
		}
	}
}

// stamp has its JSON methods on the pointer, as hand-written types often do.
type stamp struct{ n int }

func (s *stamp) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `"stamp-%d"`, s.n), nil }

func (s *stamp) UnmarshalJSON(data []byte) error {
	_, err := fmt.Sscanf(string(data), `"stamp-%d"`, &s.n)
	return err
}

func TestJSONUsesMethodsOfThePointer(t *testing.T) {
	data := mustEncode(t, codec.JSON[stamp]{}, stamp{4})
	if string(data) != `"stamp-4"` {
		t.Errorf("encoded as %s", data)
	}
	if got := mustDecode(t, codec.JSON[stamp]{}, data); got != (stamp{4}) {
		t.Errorf("decoded as %#v", got)
	}
}

// failing has methods that put the value into their errors.
type failing struct{ Password string }

func (f failing) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("password %s is weak: %w", f.Password, errWeak)
}

var errWeak = errors.New("weak")

func TestJSONEncodeErrors(t *testing.T) {
	type node struct{ Next *node }
	cycle := &node{}
	cycle.Next = cycle
	for _, test := range []struct {
		name  string
		codec codec.Codec
		value any
		want  string
		cause error
	}{
		{"method", codec.JSON[failing]{}, failing{"hunter2"}, "the marshalling method of *codec_test.failing failed", errWeak},
		{"function", codec.JSON[func()]{}, func() {}, "JSON has no form for the type func()", nil},
		{"infinity", codec.JSON[float64]{}, math.Inf(1), "JSON has no form for what the value holds", nil},
		{"cycle", codec.JSON[*node]{}, cycle, "JSON has no form for what the value holds", nil},
		{"nil map", codec.JSON[map[string]int]{}, map[string]int(nil), "not null in JSON, got a map[string]int", codec.ErrType},
		{"nil slice", codec.JSON[[]int]{}, []int(nil), "not null in JSON, got a []int", codec.ErrType},
		{"nil as any", codec.JSON[any]{}, (*member)(nil), "type interface {} that is not null in JSON, got a *codec_test.member", codec.ErrType},
		{"raw null", codec.JSON[json.RawMessage]{}, json.RawMessage("null"), "not null in JSON", codec.ErrType},
		{"raw garbage", codec.JSON[json.RawMessage]{}, json.RawMessage("hunter2"), "marshalling method", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			data, err := test.codec.Encode(test.value)
			if err == nil {
				t.Fatalf("encoded as %s", data)
			}
			if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %q, want %q in it", err, test.want)
			}
			if test.cause != nil && !errors.Is(err, test.cause) {
				t.Errorf("%v doesn't match %v", err, test.cause)
			}
		})
	}
}
