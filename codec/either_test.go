package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/polykv/polykv/codec"
)

func TestEitherChecksItsArguments(t *testing.T) {
	snappy := mustCompress(t, codec.String{}, codec.Snappy, nil)
	renamed, err := codec.WithID(codec.Bytes{}, "renamed")
	if err != nil {
		t.Fatal(err)
	}
	nested := mustEither(t, codec.JSON[string]{}, codec.String{})
	for _, test := range []struct {
		write codec.Codec
		read  []codec.Codec
		want  string
	}{
		{nil, []codec.Codec{codec.String{}}, "needs a codec to write with"},
		{codec.String{}, nil, "needs a second codec"},
		{codec.String{}, []codec.Codec{codec.JSON[string]{}, nil}, "a codec to read with is nil"},
		{codec.String{}, []codec.Codec{codec.Bytes{}}, "the bytes of string and of bytes can't be told apart"},
		{snappy, []codec.Codec{codec.JSON[string]{}, codec.String{}}, "the bytes of string+snappy and of string can't be told apart"},
		{codec.String{}, []codec.Codec{renamed}, "the bytes of string and of renamed can't be told apart"},
		{codec.String{}, []codec.Codec{nested}, "the bytes of string and of json/string can't be told apart"},
	} {
		c, err := codec.Either(test.write, test.read...)
		if err == nil || c != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, %v, want %q", c, err, test.want)
		}
	}
	if got := mustDecode(t, renamed, mustEncode(t, renamed, []byte("v"))); !equal(got, []byte("v")) || renamed.CodecID() != "renamed" {
		t.Errorf("%s: got %v", renamed.CodecID(), got)
	}
	if _, err := codec.WithID(nil, "x"); err == nil {
		t.Error("WithID took nil")
	}
	if _, err := codec.WithID(codec.String{}, ""); err == nil {
		t.Error("WithID took an empty id")
	}
}

// Both roll-outs of a change of format, in each order in which their programs may meet.
func TestEitherChangesAFormat(t *testing.T) {
	key := testKey(t, "k", 1)
	for _, change := range []struct{ from, to codec.Codec }{
		{codec.JSON[string]{}, mustCompress(t, codec.JSON[string]{}, codec.Zstd, nil)},
		{codec.JSON[string]{}, mustCompress(t, codec.JSON[string]{}, codec.Snappy, nil)},
		{codec.String{}, mustCompress(t, codec.String{}, codec.Zstd, nil)},
		{codec.String{}, mustEncrypt(t, codec.String{}, key)},
		{codec.String{}, codec.JSON[string]{}},
		{mustCompress(t, codec.String{}, codec.Snappy, nil), mustCompress(t, codec.String{}, codec.Zstd, nil)},
		{codec.JSON[string]{}, codec.String{}},
		{mustCompress(t, codec.String{}, codec.Zstd, nil), mustEncrypt(t, mustCompress(t, codec.String{}, codec.Zstd, nil), key)},
	} {
		first, second := mustEither(t, change.from, change.to), mustEither(t, change.to, change.from)
		t.Run(change.from.CodecID()+" to "+change.to.CodecID(), func(t *testing.T) {
			for _, value := range []string{"", "hello", strings.Repeat("again ", 1000), "\x00pk"} {
				for _, pair := range [][2]codec.Codec{
					{change.from, first}, {first, change.from}, {first, second}, {second, first}, {change.to, second}, {second, change.to},
				} {
					if got := mustDecode(t, pair[1], mustEncode(t, pair[0], value)); got != value {
						t.Errorf("%.20q is read as %.20q", value, got)
					}
				}
				if !bytes.Equal(mustEncode(t, first, value), mustEncode(t, change.from, value)) ||
					!bytes.Equal(mustEncode(t, second, value), mustEncode(t, change.to, value)) {
					t.Errorf("%.20q isn't written by the codec to write with", value)
				}
			}
		})
	}
}

// What says who wrote it is never taken for something else.
func TestEitherKeepsToTheMark(t *testing.T) {
	zstd := mustCompress(t, codec.String{}, codec.Zstd, nil)
	damaged := mustEncode(t, zstd, strings.Repeat("hunter2 ", 100))
	damaged[len(damaged)-1] ^= 1
	foreign := mustEncode(t, mustEncrypt(t, codec.String{}, testKey(t, "other", 9)), "hunter2")
	secret := mustEncrypt(t, codec.String{}, testKey(t, "k", 1))
	for _, test := range []struct {
		codec codec.Codec
		data  []byte
		want  string
	}{
		{mustEither(t, codec.String{}, zstd), damaged, "no codec reads this: string+zstd: "},
		{mustEither(t, zstd, codec.String{}), damaged, "no codec reads this: string+zstd: "},
		{mustEither(t, codec.String{}, secret), foreign, `no codec reads this: string+aes-gcm: encrypted with the key "other"`},
		{mustEither(t, codec.JSON[string]{}, mustEither(t, codec.String{}, secret)), foreign, `encrypted with the key "other"`},
		{mustEither(t, secret, zstd), []byte("hunter2"), "no codec reads this: string+aes-gcm: not an encrypted value, or cut off; string+zstd: "},
		{mustEither(t, codec.JSON[string]{}, zstd), []byte("hunter2"), "json/string: not valid JSON, or cut off, at byte 1"},
	} {
		value, err := test.codec.Decode(test.data)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %.40q, %v, want %q", value, err, test.want)
		}
	}
	_, err := mustEither(t, secret, codec.String{}).Decode(foreign)
	if !errors.Is(err, codec.ErrKey) {
		t.Errorf("the cause is lost in %v", err)
	}
}

// A codec that can be told from text by its content is tried, within another Either too.
func TestEitherTriesWhatMayHaveWritten(t *testing.T) {
	snappy := mustCompress(t, codec.JSON[string]{}, codec.Snappy, nil)
	inner := mustEither(t, codec.JSON[string]{}, mustCompress(t, codec.JSON[string]{}, codec.Zstd, nil))
	if got := mustDecode(t, mustEither(t, snappy, inner), []byte(`"v"`)); got != "v" {
		t.Errorf("got %q", got)
	}
	c := mustEither(t, snappy, codec.String{})
	if got := mustDecode(t, c, []byte("plain")); got != "plain" {
		t.Errorf("got %q", got)
	}
}

// Of several codecs with the same mark the one that can reads it.
func TestEitherTriesAllWithTheMark(t *testing.T) {
	oldKey, newKey := testKey(t, "old", 1), testKey(t, "new", 2)
	c := mustEither(t, mustEncrypt(t, codec.String{}, newKey), mustEncrypt(t, codec.String{}, oldKey))
	if got := mustDecode(t, c, mustEncode(t, mustEncrypt(t, codec.String{}, oldKey), "v")); got != "v" {
		t.Errorf("got %q", got)
	}
}

// counting is a codec of somebody else's, whose type isn't comparable.
type counting struct {
	codec.JSON[int]
	encoded []*int
	err     error
}

func (c counting) Encode(value any) ([]byte, error) {
	*c.encoded[0]++
	if c.err != nil {
		return nil, c.err
	}
	return c.JSON.Encode(value)
}

func (c counting) Decode(data []byte) (any, error) {
	if c.err != nil {
		return nil, c.err
	}
	return c.JSON.Decode(data)
}

func TestEitherChecksThatTypesFit(t *testing.T) {
	c := mustEither(t, codec.JSON[*member]{}, mustCompress(t, codec.JSON[member]{}, codec.Zstd, nil))
	data := mustEncode(t, mustCompress(t, codec.JSON[member]{}, codec.Zstd, nil), member{Name: "hunter2"})
	_, err := c.Decode(data)
	const want = "read by json/codec_test.member+zstd, the value can't be written back: want a value of type *codec_test.member, got codec_test.member"
	if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, codec.ErrType) {
		t.Errorf("got %v, want %q", err, want)
	}

	n := 0
	write := counting{encoded: []*int{&n}}
	c = mustEither(t, write, mustCompress(t, codec.JSON[int]{}, codec.Zstd, nil))
	data = mustEncode(t, mustCompress(t, codec.JSON[int]{}, codec.Zstd, nil), 7)
	for range 3 {
		if got := mustDecode(t, c, data); got != 7 {
			t.Errorf("got %v", got)
		}
		if got := mustDecode(t, c, []byte("8")); got != 8 {
			t.Errorf("got %v", got)
		}
	}
	if n != 1 {
		t.Errorf("writing was tried %d times, want once for each type", n)
	}
}

func TestEitherHidesTheTextOfOthersErrors(t *testing.T) {
	n := 0
	quoting := counting{encoded: []*int{&n}, err: fmt.Errorf("hunter2 is no number: %w", errWeak)}
	_, err := mustEither(t, quoting, codec.JSON[int]{}).Decode([]byte("x"))
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "json/int: it fails with a *fmt.wrapError") || !errors.Is(err, errWeak) {
		t.Errorf("got %v", err)
	}
	_, err = mustEither(t, quoting, codec.JSON[int]{}).Decode([]byte("7"))
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "can't be written back: it fails with a *fmt.wrapError") {
		t.Errorf("got %v", err)
	}
}

// One of several codecs, all of which mark what they write, is itself known by the marks.
func TestEitherOfEither(t *testing.T) {
	encrypted, zstd := mustEncrypt(t, codec.String{}, testKey(t, "k", 1)), mustCompress(t, codec.String{}, codec.Zstd, nil)
	marked := mustEither(t, encrypted, zstd)
	outer := mustEither(t, marked, codec.JSON[string]{})
	for _, c := range []codec.Codec{encrypted, zstd, codec.JSON[string]{}} {
		if got := mustDecode(t, outer, mustEncode(t, c, "v")); got != "v" {
			t.Errorf("of %s: %v", c.CodecID(), got)
		}
	}
	if _, err := outer.Decode([]byte("x")); err == nil || !strings.Contains(err.Error(), "no codec reads this: json/string: ") {
		t.Errorf("what none has marked: %v", err)
	}
	cut := mustEncode(t, zstd, strings.Repeat("again ", 1000))
	if _, err := outer.Decode(cut[:len(cut)-1]); err == nil || strings.Contains(err.Error(), "json/string: ") {
		t.Errorf("what one has marked: %v", err)
	}
	loose := mustEither(t, mustEither(t, codec.JSON[string]{}, encrypted), zstd)
	if _, err := loose.Decode([]byte("x")); err == nil || !strings.Contains(err.Error(), "json/string: ") {
		t.Errorf("what may be of the first: %v", err)
	}
}
