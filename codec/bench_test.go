package codec_test

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polykv/polykv/codec"
)

func benchmarkCodec(b *testing.B, c codec.Codec, value any) {
	b.Helper()
	data := mustEncode(b, c, value)
	b.Run("Encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Encode(value); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCodecs(b *testing.B) {
	m := member{Name: "instance-17", Port: 80, Attrs: map[string]string{"zone": "a", "rack": "b"}}
	s, err := structpb.NewStruct(map[string]any{"name": "instance-17", "port": 80, "zone": "a", "rack": "b"})
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name  string
		codec codec.Codec
		value any
	}{
		{"String", codec.String{}, "a value of about forty bytes, in a string"},
		{"Bytes", codec.Bytes{}, []byte("a value of about forty bytes, in a slice")},
		{"JSON", codec.JSON[member]{}, m},
		{"Proto", codec.Proto[*structpb.Struct]{}, s},
	} {
		b.Run(bench.name, func(b *testing.B) { benchmarkCodec(b, bench.codec, bench.value) })
	}
}

func BenchmarkCompress(b *testing.B) {
	for _, algorithm := range algorithms {
		for _, size := range []int{100, 10_000, 1_000_000} {
			value := bytes.Repeat([]byte("instance-17 zone-a rack-b; "), size/27+1)[:size]
			b.Run(fmt.Sprintf("%s/%d", algorithm, size), func(b *testing.B) {
				benchmarkCodec(b, mustCompress(b, codec.Bytes{}, algorithm, nil), value)
			})
		}
	}
}

// String and Bytes are on the path of every small value, so what they allocate is fixed here: the result, and in
// Decode its box in an interface.
func TestHotPathAllocations(t *testing.T) {
	for _, test := range []struct {
		codec          codec.Codec
		value          any
		encode, decode float64
	}{
		{codec.String{}, "a value of about forty bytes, in a string", 1, 2},
		{codec.Bytes{}, []byte("a value of about forty bytes, in a slice"), 1, 2},
	} {
		data := mustEncode(t, test.codec, test.value)
		if n := testing.AllocsPerRun(100, func() { _, _ = test.codec.Encode(test.value) }); n > test.encode {
			t.Errorf("%s: Encode makes %v allocations", test.codec.CodecID(), n)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = test.codec.Decode(data) }); n > test.decode {
			t.Errorf("%s: Decode makes %v allocations", test.codec.CodecID(), n)
		}
	}
}
