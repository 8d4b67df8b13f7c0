package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polykv/polykv/codec"
)

// checkDecode holds for any codec and any bytes: an error of its own, or a value that survives being written and read.
func checkDecode(t *testing.T, c codec.Codec, data []byte) (value any, ok bool) {
	t.Helper()
	given := bytes.Clone(data)
	value, err := c.Decode(data)
	if !bytes.Equal(data, given) {
		t.Fatal("Decode changed its input")
	}
	if err != nil {
		if e := new(codec.Error); !errors.As(err, &e) || value != nil {
			t.Fatalf("got %#v, %#v", value, err)
		}
		return nil, false
	}
	if value == nil {
		t.Fatal("Decode returned nil without an error")
	}
	data2 := mustEncode(t, c, value)
	value2 := mustDecode(t, c, data2)
	// Compared as bytes, because a NaN is not equal to itself.
	if data3 := mustEncode(t, c, value2); !bytes.Equal(data3, data2) {
		t.Fatalf("%#v was written and came back as %#v", value, value2)
	}
	return value, true
}

func addText(f *testing.F) {
	for _, s := range []string{
		"", "hello", "\x00\xff", `"text"`, `{"Text":"a","Number":1,"Raw":"AAE=","Pointer":{"List":["x",null]}}`, "null", " null\n", "nullx",
		`{"Text":1}`, `[1,2,3]`, `1e999`, `{"Number":1e2}`, `{"Text":"\ud800"}`, "\"\xff\"", `{"Text":"a"}{`, strings.Repeat("[", 20000),
	} {
		f.Add([]byte(s))
	}
}

func FuzzStringDecode(f *testing.F) {
	addText(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		value, ok := checkDecode(t, codec.String{}, data)
		if !ok || !bytes.Equal(mustEncode(t, codec.String{}, value), data) {
			t.Fatalf("%q came back as %q", data, value)
		}
	})
}

func FuzzBytesDecode(f *testing.F) {
	addText(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		value, ok := checkDecode(t, codec.Bytes{}, data)
		if !ok || !bytes.Equal(mustEncode(t, codec.Bytes{}, value), data) {
			t.Fatalf("%q came back as %q", data, value)
		}
	})
}

func FuzzJSONDecode(f *testing.F) {
	addText(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		checkDecode(t, codec.JSON[document]{}, data)
		checkDecode(t, codec.JSON[*document]{}, data)
		checkDecode(t, codec.JSON[map[string]any]{}, data)
		checkDecode(t, codec.JSON[json.RawMessage]{}, data)
		if _, ok := checkDecode(t, codec.JSON[any]{}, data); ok && !json.Valid(data) {
			t.Fatalf("accepted, though it isn't JSON: %q", data)
		}
	})
}

func FuzzProtoDecode(f *testing.F) {
	s, err := structpb.NewStruct(map[string]any{"a": 1, "b": []any{"x", true, nil}, "c": map[string]any{"d": "e"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(mustEncode(f, codec.Proto[*structpb.Struct]{}, s))
	f.Add(deepStruct(10))
	addText(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		checkDecode(t, codec.Proto[*structpb.Struct]{}, data)
		checkDecode(t, codec.Proto[*structpb.Value]{}, data)
	})
}

const fuzzLimit = 256 * kib

func FuzzSnappyDecode(f *testing.F) {
	c := mustCompress(f, codec.Bytes{}, codec.Snappy, &codec.CompressOptions{MaxDecodedSize: fuzzLimit})
	f.Add(mustEncode(f, c, []byte("hello")))
	f.Add(mustEncode(f, c, bytes.Repeat([]byte("hello, again, "), 100)))
	f.Add(snappy.Encode(nil, make([]byte, 2*fuzzLimit)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	addText(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		value, ok := checkDecode(t, c, data)
		if !ok {
			return
		}
		want, err := snappy.Decode(nil, data)
		if err != nil || !bytes.Equal(value.([]byte), want) || len(want) > fuzzLimit {
			t.Fatalf("got %q, want %q (%v)", value, want, err)
		}
	})
}

func FuzzZstdDecode(f *testing.F) {
	c := mustCompress(f, codec.Bytes{}, codec.Zstd, &codec.CompressOptions{MaxDecodedSize: fuzzLimit})
	text := bytes.Repeat([]byte("hello, again, "), 100)
	f.Add(mustEncode(f, c, []byte("hello")))
	f.Add(mustEncode(f, c, text))
	f.Add(zstdStream(f, text, 1, -1))
	f.Add(zstdStream(f, text, 1, int64(len(text)), zstd.WithEncoderLevel(zstd.SpeedBestCompression)))
	f.Add(zstdStream(f, make([]byte, mib), 1, -1, zstd.WithEncoderCRC(false)))
	f.Add(zstdRuns(zstdHeader(-1), 3, 1000))
	f.Add(zstdRuns(zstdHeader(fuzzLimit+1), 3, 128*kib))
	f.Add([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'y', 'z'})
	addText(f)
	reference, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value, ok := checkDecode(t, c, data)
		if !ok {
			return
		}
		want, err := reference.DecodeAll(data, nil)
		if err != nil || !bytes.Equal(value.([]byte), want) || len(want) > fuzzLimit {
			t.Fatalf("got %q, want %q (%v)", value, want, err)
		}
	})
}

func FuzzStrictJSONDecode(f *testing.F) {
	addText(f)
	f.Add([]byte(`{"Text":"a","Txet":"b"}`))
	f.Add([]byte(`{"Map":{"a":1,"a":2}}`))
	f.Add([]byte(`{"Text":"a"} x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		value, ok := checkDecode(t, codec.StrictJSON[document]{}, data)
		if !ok {
			return
		}
		// Whatever is accepted strictly is accepted by the tolerant codec, as the same.
		if tolerant := mustDecode(t, codec.JSON[document]{}, data); !equal(value, tolerant) {
			t.Fatalf("%q is %#v, and %#v by the tolerant codec", data, value, tolerant)
		}
		checkDecode(t, codec.StrictJSON[map[string]any]{}, data)
	})
}

// FuzzEncryptDecode: without the key nothing is accepted but what Encode wrote, to the bit.
func FuzzEncryptDecode(f *testing.F) {
	c := mustEncrypt(f, codec.Bytes{}, testKey(f, "new", 1), testKey(f, "old", 2))
	f.Add(mustEncode(f, c, []byte("hello")))
	f.Add(mustEncode(f, mustEncrypt(f, codec.Bytes{}, testKey(f, "old", 2)), []byte("hello")))
	f.Add(mustEncode(f, mustEncrypt(f, codec.Bytes{}, testKey(f, "unknown", 3)), []byte{}))
	f.Add([]byte("\x00pke\x01"))
	f.Add([]byte("\x00pke\x01\xff"))
	addText(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		value, ok := checkDecode(t, c, data)
		if !ok {
			return
		}
		old := mustEncrypt(t, codec.Bytes{}, testKey(t, "old", 2))
		if !bytes.Equal(mustEncode(t, c, value), data) && !bytes.Equal(mustEncode(t, old, value), data) {
			t.Fatalf("%q was accepted as %q, which is not what is written", data, value)
		}
	})
}

func FuzzEitherDecode(f *testing.F) {
	zstd := mustCompress(f, codec.JSON[document]{}, codec.Zstd, &codec.CompressOptions{MaxDecodedSize: fuzzLimit})
	secret := mustEncrypt(f, zstd, testKey(f, "k", 1))
	c := mustEither(f, secret, zstd, codec.JSON[document]{})
	addText(f)
	for _, of := range []codec.Codec{codec.JSON[document]{}, zstd, secret} {
		f.Add(mustEncode(f, of, document{Text: "a"}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value, ok := checkDecode(t, c, data)
		accepted := false
		for _, of := range []codec.Codec{codec.JSON[document]{}, zstd, secret} {
			if alone, err := of.Decode(data); err == nil {
				accepted = true
				if !ok || !equal(alone, value) {
					t.Fatalf("%s reads %#v, either of them %#v", of.CodecID(), alone, value)
				}
			}
		}
		if ok && !accepted {
			t.Fatalf("%q is accepted by none alone", data)
		}
	})
}
