package codec_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/polykv/polykv/codec"
)

func TestStrictJSONRefuses(t *testing.T) {
	for _, test := range []struct {
		name  string
		codec codec.Codec
		data  string
		want  string
	}{
		{"misspelt", codec.StrictJSON[member]{}, `{"nam":"hunter2"}`, `codec_test.member has no field "nam"`},
		{"nested", codec.StrictJSON[[]map[string]member]{}, `[{"x":{"nam":"hunter2"}}]`, `has no field "nam"`},
		{"no name", codec.StrictJSON[member]{}, `{"hunter2 is my password":1}`, `has no field of the name it is given`},
		{"long name", codec.StrictJSON[member]{}, `{"` + strings.Repeat("hunter2", 10) + `":1}`, `has no field of the name it is given`},
		{"longest name", codec.StrictJSON[member]{}, `{"` + strings.Repeat("~", 64) + `":1}`, `has no field "` + strings.Repeat("~", 64) + `"`},
		{"too long a name", codec.StrictJSON[member]{}, `{"` + strings.Repeat("~", 65) + `":1}`, `has no field of the name it is given`},
		{"twice beside a large number", codec.StrictJSON[json.RawMessage]{}, `{"a":1e999,"a":1}`, `the field "a" is given a second time`},
		{"empty name", codec.StrictJSON[member]{}, `{"":1}`, `has no field of the name it is given`},
		{"twice", codec.StrictJSON[member]{}, `{"name":"hunter2","name":"b"}`, `the field "name" is given a second time, before byte 24`},
		{"twice in a map", codec.StrictJSON[member]{}, `{"attrs":{"a":"1","b":"2","a":"3"}}`, `the field "a" is given a second time`},
		{"twice in an array", codec.StrictJSON[[]any]{}, `[1,{"a":[{}],"a":1}]`, `the field "a" is given a second time`},
		{"twice in raw", codec.StrictJSON[json.RawMessage]{}, `{"a":1,"a":1}`, `the field "a" is given a second time`},
		{"a second value", codec.StrictJSON[member]{}, `{"name":"a"} {"name":"hunter2"}`, `something follows the value, after byte 12`},
		{"text behind", codec.StrictJSON[member]{}, `{"name":"a"}hunter2`, `something follows the value, after byte 12`},
		{"null", codec.StrictJSON[*member]{}, ` null `, `null is not a value`},
		{"UTF-8", codec.StrictJSON[string]{}, "\"\xff\"", `not valid UTF-8`},
		{"type", codec.StrictJSON[member]{}, `{"port":31337}`, `a JSON number does not fit int8 in field port at byte 13`},
		{"cut off", codec.StrictJSON[member]{}, `{"name":"hunter2`, `not valid JSON, or cut off, at byte 16`},
		{"empty", codec.StrictJSON[member]{}, ``, `not valid JSON, or cut off, at byte 0`},
		{"no JSON", codec.StrictJSON[member]{}, `hunter2`, `not valid JSON, or cut off, at byte 1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			value, err := test.codec.Decode([]byte(test.data))
			var own *codec.Error
			if !errors.As(err, &own) || own.Op != "decode" || value != nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, %v, want %q", value, err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "31337") {
				t.Errorf("the error quotes the value: %v", err)
			}
		})
	}
}

func TestStrictJSONAccepts(t *testing.T) {
	for _, data := range []string{
		`{"name":"a","port":1,"attrs":{"name":"x","Name":"y"}}`,
		" \n{\"NAME\":\"a\",\"port\":1,\"attrs\":{\"name\":\"x\",\"Name\":\"y\"}}\t",
	} {
		want := member{Name: "a", Port: 1, Attrs: map[string]string{"name": "x", "Name": "y"}}
		if got := mustDecode(t, codec.StrictJSON[member]{}, []byte(data)); !equal(got, want) {
			t.Errorf("%s: got %#v", data, got)
		}
	}
	if got := mustDecode(t, codec.StrictJSON[any]{}, []byte(`[{"a":1},{"a":2},"a","a"]`)); len(got.([]any)) != 4 {
		t.Errorf("got %v", got)
	}
}

// A program may change from the tolerant codec to the strict one and back.
func TestStrictJSONHasTheIDOfJSON(t *testing.T) {
	if got, want := (codec.StrictJSON[member]{}).CodecID(), (codec.JSON[member]{}).CodecID(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (codec.StrictJSON[member]{ID: "members"}).CodecID(); got != "members" {
		t.Errorf("got %q", got)
	}
}
