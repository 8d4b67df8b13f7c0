package codec_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polykv/polykv/codec"
)

func ExampleString() {
	data, err := codec.String{}.Encode("leader-1")
	fmt.Printf("%s %v\n", data, err)

	value, err := codec.String{}.Decode(data)
	fmt.Printf("%v %v\n", value, err)
	// Output:
	// leader-1 <nil>
	// leader-1 <nil>
}

func ExampleBytes() {
	mine := []byte("abc")
	data, _ := codec.Bytes{}.Encode(mine)
	mine[0] = 'X' // the encoded bytes are a copy
	fmt.Printf("%s\n", data)
	// Output: abc
}

func ExampleJSON() {
	type Shard struct {
		Owner   string `json:"owner"`
		Version int    `json:"version"`
	}
	c := codec.JSON[Shard]{}

	data, err := c.Encode(Shard{Owner: "a", Version: 3})
	fmt.Println(string(data), err)

	value, err := c.Decode([]byte(`{"owner": "b", "version": 4, "added_later": true}`))
	fmt.Println(value.(Shard).Owner, err)

	// Mistakes are errors that name types and places, never values.
	_, err = c.Encode(&Shard{})
	fmt.Println(err)
	_, err = c.Decode([]byte(`{"owner": "b"} {"owner": "c"}`))
	fmt.Println(err)
	// Output:
	// {"owner":"a","version":3} <nil>
	// b <nil>
	// codec json/codec_test.Shard: encode: want a value of type codec_test.Shard, got *codec_test.Shard
	// codec json/codec_test.Shard: decode: not valid JSON, or cut off, at byte 16
}

func ExampleStrictJSON() {
	type Flags struct {
		Enabled bool `json:"enabled"`
	}
	tolerant, err := codec.JSON[Flags]{}.Decode([]byte(`{"enbled": true}`))
	fmt.Println(tolerant, err)
	_, err = codec.StrictJSON[Flags]{}.Decode([]byte(`{"enbled": true}`))
	fmt.Println(err)
	// Output:
	// {false} <nil>
	// codec json/codec_test.Flags: decode: codec_test.Flags has no field "enbled"
}

// A format changes while programs run: first all learn to read the new one, then they begin to write it.
func ExampleEither() {
	plain := codec.JSON[map[string]int]{}
	compressed, err := codec.Compress(plain, codec.Zstd, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	first, err1 := codec.Either(plain, compressed)
	second, err2 := codec.Either(compressed, plain)
	fmt.Println(err1, err2)

	byFirst, _ := first.Encode(map[string]int{"a": 1})
	bySecond, _ := second.Encode(map[string]int{"a": 2})
	fmt.Println(second.Decode(byFirst))
	fmt.Println(first.Decode(bySecond))
	// Output:
	// <nil> <nil>
	// map[a:1] <nil>
	// map[a:2] <nil>
}

func ExampleEncrypt() {
	old, err1 := codec.NewKey("2025", []byte("a secret of 32 bytes: all random"))
	current, err2 := codec.NewKey("2026", []byte("another one, from openssl rand 3"))
	before, err3 := codec.Encrypt(codec.String{}, old)
	now, err4 := codec.Encrypt(codec.String{}, current, old) // writes with the first, reads both
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		fmt.Println(err)
		return
	}
	stored, _ := before.Encode("hunter2")
	fmt.Println(strings.Contains(string(stored), "hunter2"))
	fmt.Println(now.Decode(stored))

	stored, _ = now.Encode("hunter3")
	_, err := before.Decode(stored)
	fmt.Println(errors.Is(err, codec.ErrKey), err)
	// Output:
	// false
	// hunter2 <nil>
	// true codec string+aes-gcm: decode: encrypted with the key "2026", which this program doesn't have
}

func ExampleWithID() {
	c, err := codec.WithID(codec.JSON[int]{}, "counter")
	fmt.Println(c.CodecID(), err)
	// Output: counter <nil>
}

func ExampleProto() {
	c := codec.Proto[*durationpb.Duration]{}
	fmt.Println(c.CodecID())

	data, err := c.Encode(durationpb.New(90 * time.Second))
	fmt.Println(len(data), err)

	value, err := c.Decode(data)
	fmt.Println(value.(*durationpb.Duration).AsDuration(), err)
	// Output:
	// proto/google.protobuf.Duration
	// 2 <nil>
	// 1m30s <nil>
}

func ExampleCompress() {
	c, err := codec.Compress(codec.String{}, codec.Zstd, &codec.CompressOptions{MaxDecodedSize: 1 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.CodecID())

	data, err := c.Encode(strings.Repeat("again ", 10000))
	fmt.Println(len(data) < 100, err)

	value, err := c.Decode(data)
	fmt.Println(len(value.(string)), err)

	_, err = c.Encode(strings.Repeat("x", 2<<20))
	fmt.Println(errors.Is(err, codec.ErrSizeLimit), err)
	// Output:
	// string+zstd
	// true <nil>
	// 60000 <nil>
	// true codec string+zstd: encode: 2097152 bytes uncompressed, the limit is 1048576
}

func ExampleError() {
	_, err := codec.JSON[int]{}.Decode([]byte("12x"))

	if e := new(codec.Error); errors.As(err, &e) {
		fmt.Println(e.CodecID)
		fmt.Println(e.Op)
		fmt.Println(e.Reason)
	}
	// Output:
	// json/int
	// decode
	// not valid JSON, or cut off, at byte 3
}
