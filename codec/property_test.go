package codec_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"
	"pgregory.net/rapid"

	"github.com/polykv/polykv/codec"
)

// document has the shapes that JSON knows, and some that only Go tells apart.
type document struct {
	Text    string
	Number  int64
	Ratio   float64
	On      bool
	Raw     []byte
	List    []string
	Map     map[string]int
	Pointer *document
	Omitted string `json:",omitempty"`
}

// Strings are generated without invalid UTF-8, which JSON cannot hold.
func genDocument(depth int) *rapid.Generator[document] {
	return rapid.Custom(func(t *rapid.T) document {
		d := document{
			Text:    rapid.String().Draw(t, "text"),
			Number:  rapid.Int64().Draw(t, "number"),
			Ratio:   rapid.Float64Range(-1e300, 1e300).Draw(t, "ratio"),
			On:      rapid.Bool().Draw(t, "on"),
			Raw:     rapid.SliceOf(rapid.Byte()).Draw(t, "raw"),
			List:    rapid.SliceOf(rapid.String()).Draw(t, "list"),
			Map:     rapid.MapOf(rapid.String(), rapid.Int()).Draw(t, "map"),
			Omitted: rapid.String().Draw(t, "omitted"),
		}
		if depth > 0 && rapid.Bool().Draw(t, "nested") {
			p := genDocument(depth-1).Draw(t, "pointer")
			d.Pointer = &p
		}
		return d
	})
}

func genStruct(t *rapid.T) *structpb.Struct {
	s := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for key, number := range rapid.MapOf(rapid.String(), rapid.Float64()).Draw(t, "fields") {
		s.Fields[key] = structpb.NewNumberValue(number)
	}
	return s
}

// wrapped is c, plain and in every codec that wraps others.
func wrapped(t testing.TB, c codec.Codec) []codec.Codec {
	all := []codec.Codec{c}
	for _, algorithm := range algorithms {
		all = append(all, mustCompress(t, c, algorithm, nil))
	}
	secret := mustEncrypt(t, c, testKey(t, "k", 1))
	return append(all, secret, mustEither(t, c, secret))
}

func TestRoundTripOfAnyValue(t *testing.T) {
	check := func(c codec.Codec, draw func(*rapid.T) any) {
		for _, c := range wrapped(t, c) {
			t.Run(c.CodecID(), rapid.MakeCheck(func(t *rapid.T) {
				value := draw(t)
				data, err := c.Encode(value)
				if err != nil {
					t.Fatalf("Encode: %v", err)
				}
				back, err := c.Decode(data)
				if err != nil {
					t.Fatalf("Decode: %v", err)
				}
				if !equal(back, value) {
					t.Fatalf("got %#v, want %#v", back, value)
				}
				again, err := c.Encode(back)
				if err != nil || !bytes.Equal(again, data) {
					t.Fatalf("encoded again: %q, %v, want %q", again, err, data)
				}
			}))
		}
	}
	check(codec.String{}, func(t *rapid.T) any { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "value")) })
	check(codec.Bytes{}, func(t *rapid.T) any { return rapid.SliceOf(rapid.Byte()).Draw(t, "value") })
	check(codec.JSON[document]{ID: "document"}, func(t *rapid.T) any { return genDocument(2).Draw(t, "value") })
	check(codec.JSON[string]{ID: "text"}, func(t *rapid.T) any { return rapid.String().Draw(t, "value") })
	check(codec.Proto[*structpb.Struct]{ID: "struct"}, func(t *rapid.T) any { return genStruct(t) })
}

// What an encoder did before must not show in its output, or unchanged values would look changed.
func TestCompressHasNoMemory(t *testing.T) {
	for _, algorithm := range algorithms {
		c := mustCompress(t, codec.Bytes{}, algorithm, nil)
		t.Run(string(algorithm), rapid.MakeCheck(func(rt *rapid.T) {
			pattern := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(rt, "pattern")
			value := bytes.Repeat(pattern, rapid.IntRange(1, 5000).Draw(rt, "repeat"))
			fresh := mustCompress(t, codec.Bytes{}, algorithm, nil)
			used, err := c.Encode(value)
			if err != nil {
				rt.Fatal(err)
			}
			if want, err := fresh.Encode(value); err != nil || !bytes.Equal(used, want) {
				rt.Fatalf("a used encoder gave %d bytes, a fresh one %d (%v)", len(used), len(want), err)
			}
		}))
	}
}
