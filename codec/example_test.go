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

	if e, ok := errors.AsType[*codec.Error](err); ok {
		fmt.Println(e.CodecID)
		fmt.Println(e.Op)
		fmt.Println(e.Reason)
	}
	// Output:
	// json/int
	// decode
	// not valid JSON, or cut off, at byte 3
}
