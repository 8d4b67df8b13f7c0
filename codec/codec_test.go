package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polykv/polykv/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type member struct {
	Name  string            `json:"name"`
	Port  int8              `json:"port"`
	Attrs map[string]string `json:"attrs,omitempty"`
}

// mustCompress is for options that are known to be good.
func mustCompress(t testing.TB, inner codec.Codec, algorithm codec.Algorithm, opts *codec.CompressOptions) codec.Codec {
	t.Helper()
	c, err := codec.Compress(inner, algorithm, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// subject is a codec with a value that it takes.
type subject struct {
	codec codec.Codec
	value any
	id    string
}

func subjects(t testing.TB) []subject {
	list, err := structpb.NewStruct(map[string]any{"a": 1, "b": []any{"x", true, nil}, "c": map[string]any{"d": "e"}})
	if err != nil {
		t.Fatal(err)
	}
	m := member{Name: "one", Port: 7, Attrs: map[string]string{"zone": "a", "rack": "b"}}
	plain := []subject{
		{codec.String{}, "hello \xff\x00 world", "string"},
		{codec.Bytes{}, []byte("hello \xff\x00 world"), "bytes"},
		{codec.JSON[member]{}, m, "json/codec_test.member"},
		{codec.JSON[*member]{ID: "members"}, &m, "members"},
		{codec.JSON[map[string]int]{}, map[string]int{"b": 1, "a": 2}, "json/map[string]int"},
		{codec.JSON[json.RawMessage]{}, json.RawMessage(`{"raw":[1,2]}`), "json/json.RawMessage"},
		{codec.StrictJSON[member]{}, m, "json/codec_test.member"},
		{codec.Proto[*structpb.Struct]{}, list, "proto/google.protobuf.Struct"},
		{codec.Proto[*durationpb.Duration]{ID: "lease"}, durationpb.New(90e9), "lease"},
	}
	all := plain
	for _, s := range plain {
		for _, algorithm := range []codec.Algorithm{codec.Snappy, codec.Zstd} {
			c := mustCompress(t, s.codec, algorithm, nil)
			all = append(all, subject{c, s.value, s.id + "+" + string(algorithm)})
		}
		all = append(all, subject{mustEncrypt(t, s.codec, testKey(t, "k1", 1)), s.value, s.id + "+aes-gcm"})
		zstd := mustCompress(t, s.codec, codec.Zstd, nil)
		all = append(all, subject{mustEither(t, s.codec, zstd), s.value, s.id},
			subject{mustEither(t, zstd, s.codec), s.value, s.id + "+zstd"})
	}
	return all
}

func mustEither(t testing.TB, write codec.Codec, alsoRead ...codec.Codec) codec.Codec {
	t.Helper()
	c, err := codec.Either(write, alsoRead...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustEncrypt(t testing.TB, inner codec.Codec, keys ...codec.Key) codec.Codec {
	t.Helper()
	c, err := codec.Encrypt(inner, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// testKey returns the key of an id and a number from which its secret is made.
func testKey(t testing.TB, id string, n byte) codec.Key {
	t.Helper()
	key, err := codec.NewKey(id, testSecret(n))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func testSecret(n byte) []byte {
	secret := make([]byte, codec.KeySize)
	for i := range secret {
		secret[i] = 'A' + n + byte(i)%7
	}
	return secret
}

func forAll(t *testing.T, test func(t *testing.T, s subject)) {
	for _, s := range subjects(t) {
		t.Run(s.codec.CodecID(), func(t *testing.T) { test(t, s) })
	}
}

func mustEncode(t testing.TB, c codec.Codec, value any) []byte {
	t.Helper()
	data, err := c.Encode(value)
	if err != nil {
		t.Fatalf("Encode: %v", err)
	}
	if data == nil {
		t.Fatal("Encode returned nil bytes without an error")
	}
	return data
}

func mustDecode(t testing.TB, c codec.Codec, data []byte) any {
	t.Helper()
	value, err := c.Decode(data)
	if err != nil {
		t.Fatalf("Decode: %v", err)
	}
	if value == nil {
		t.Fatal("Decode returned nil without an error")
	}
	return value
}

func equal(a, b any) bool {
	if m, ok := a.(proto.Message); ok {
		other, ok := b.(proto.Message)
		return ok && proto.Equal(m, other)
	}
	return reflect.DeepEqual(a, b)
}

func TestRoundTrip(t *testing.T) {
	forAll(t, func(t *testing.T, s subject) {
		data := mustEncode(t, s.codec, s.value)
		back := mustDecode(t, s.codec, data)
		if reflect.TypeOf(back) != reflect.TypeOf(s.value) || !equal(back, s.value) {
			t.Errorf("got %#v, want %#v", back, s.value)
		}
		if again := mustEncode(t, s.codec, back); !bytes.Equal(again, data) {
			t.Errorf("encoded again: %q, want %q", again, data)
		}
	})
}

func TestCodecID(t *testing.T) {
	forAll(t, func(t *testing.T, s subject) {
		if got := s.codec.CodecID(); got != s.id {
			t.Errorf("got %q, want %q", got, s.id)
		}
	})
}

// A program reuses its buffers and changes its values; neither may reach what the codec returned.
func TestNothingIsShared(t *testing.T) {
	forAll(t, func(t *testing.T, s subject) {
		data := mustEncode(t, s.codec, s.value)
		kept := bytes.Clone(data)
		back := mustDecode(t, s.codec, data)
		for i := range data {
			data[i] ^= 0xff
		}
		if !equal(back, s.value) {
			t.Errorf("the value changed with the bytes it was decoded from: %#v", back)
		}
		if again := mustEncode(t, s.codec, s.value); !bytes.Equal(again, kept) {
			t.Errorf("the value changed with the bytes it was encoded to: %q, want %q", again, kept)
		}
		if _, ok := s.value.([]byte); ok {
			first := mustEncode(t, s.codec, back)
			back.([]byte)[0] ^= 0xff
			if !bytes.Equal(first, kept) {
				t.Error("the bytes changed with the value they were encoded from")
			}
		}
	})
}

func TestResultsAreDistinct(t *testing.T) {
	forAll(t, func(t *testing.T, s subject) {
		first := mustEncode(t, s.codec, s.value)
		kept := bytes.Clone(first)
		clear(mustEncode(t, s.codec, s.value))
		if !bytes.Equal(first, kept) {
			t.Error("a later Encode shares memory with an earlier one")
		}
		if cap(first) > len(first)+len(first)/2+32 {
			t.Errorf("%d bytes occupy %d", len(first), cap(first))
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	forAll(t, func(t *testing.T, s subject) {
		want := mustEncode(t, s.codec, s.value)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 20 {
					data, err := s.codec.Encode(s.value)
					if err != nil || !bytes.Equal(data, want) {
						t.Errorf("Encode: %q, %v", data, err)
					}
					if back, err := s.codec.Decode(data); err != nil || !equal(back, s.value) {
						t.Errorf("Decode: %v, %v", back, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestWrongTypes(t *testing.T) {
	type myString string
	type myBytes []byte
	secret := "hunter2"
	wrong := []any{
		nil, 1, myString(secret), &secret, myBytes(secret),
		[]string{secret},
		struct{ Password string }{secret},
		member{Name: secret},
		&member{Name: secret}, (*member)(nil), (*durationpb.Duration)(nil), (*structpb.Struct)(nil),
		map[string]int(nil), json.RawMessage(nil), (*dynamicpb.Message)(nil), error(nil), errors.New(secret), make(chan int),
	}
	forAll(t, func(t *testing.T, s subject) {
		for _, value := range wrong {
			isNil := value != nil && strings.HasPrefix(fmt.Sprintf("%#v", value), fmt.Sprintf("(%T)(nil)", value)) ||
				fmt.Sprintf("%#v", value) == fmt.Sprintf("%T(nil)", value)
			if reflect.TypeOf(value) == reflect.TypeOf(s.value) && !isNil {
				continue
			}
			_, err := s.codec.Encode(value)
			if !errors.Is(err, codec.ErrType) {
				t.Errorf("%T: got %v, want ErrType", value, err)
				continue
			}
			var e *codec.Error
			if !errors.As(err, &e) || e.Op != "encode" || !strings.HasPrefix(s.id, e.CodecID) {
				t.Errorf("%T: not a codec.Error of this codec: %#v", value, err)
			}
			for _, name := range []string{fmt.Sprintf("%T", s.value), strings.ReplaceAll(fmt.Sprintf("%T", value), "<nil>", "nil")} {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%T: the error doesn't name %s: %v", value, name, err)
				}
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%T: the error quotes the value: %v", value, err)
			}
		}
	})
}

func TestErrorText(t *testing.T) {
	_, err := codec.String{}.Encode(3)
	if got, want := fmt.Sprint(err), "codec string: encode: want a value of type string, got int"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = codec.JSON[float64]{}.Encode(math.NaN())
	if got := fmt.Sprint(err); !strings.HasPrefix(got, "codec json/float64: encode: ") {
		t.Errorf("got %q", got)
	}
}

func TestEmptyValues(t *testing.T) {
	for _, test := range []struct {
		codec    codec.Codec
		value    any
		wantBack any
	}{
		{codec.String{}, "", ""},
		{codec.Bytes{}, []byte{}, []byte{}},
		{codec.Bytes{}, []byte(nil), []byte{}},
		{codec.Proto[*durationpb.Duration]{}, &durationpb.Duration{}, &durationpb.Duration{}},
	} {
		data := mustEncode(t, test.codec, test.value)
		if len(data) != 0 {
			t.Errorf("%s: encoded as %q", test.codec.CodecID(), data)
		}
		for _, empty := range [][]byte{data, nil} {
			if back := mustDecode(t, test.codec, empty); !equal(back, test.wantBack) {
				t.Errorf("%s: decoded as %#v", test.codec.CodecID(), back)
			}
		}
		for _, algorithm := range []codec.Algorithm{codec.Snappy, codec.Zstd} {
			c := mustCompress(t, test.codec, algorithm, nil)
			if back := mustDecode(t, c, mustEncode(t, c, test.value)); !equal(back, test.wantBack) {
				t.Errorf("%s: decoded as %#v", c.CodecID(), back)
			}
		}
	}
}
