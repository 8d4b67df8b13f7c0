package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/polykv/polykv/codec"
)

var algorithms = []codec.Algorithm{codec.Snappy, codec.Zstd}

func TestCompressChecksItsArguments(t *testing.T) {
	for _, test := range []struct {
		inner     codec.Codec
		algorithm codec.Algorithm
		limit     int
		want      string
	}{
		{nil, codec.Zstd, 0, "needs a codec"},
		{codec.String{}, "gzip", 0, `unknown algorithm "gzip", allowed are "snappy" and "zstd"`},
		{codec.String{}, "", 0, `unknown algorithm "", allowed are "snappy" and "zstd"`},
		{codec.String{}, codec.Zstd, -1, "MaxDecodedSize is -1, allowed are 1 to 1073741824 bytes"},
		{codec.String{}, codec.Snappy, codec.LargestMaxDecodedSize + 1, "MaxDecodedSize is 1073741825, allowed are 1 to 1073741824 bytes"},
	} {
		c, err := codec.Compress(test.inner, test.algorithm, &codec.CompressOptions{MaxDecodedSize: test.limit})
		if err == nil || c != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, %v, want %q", c, err, test.want)
		}
	}
	for _, limit := range []int{0, 1, codec.LargestMaxDecodedSize} {
		mustCompress(t, codec.String{}, codec.Zstd, &codec.CompressOptions{MaxDecodedSize: limit})
	}
}

func TestCompressCompresses(t *testing.T) {
	text := strings.Repeat("the same again and again; ", 1000)
	for _, algorithm := range algorithms {
		if n := len(mustEncode(t, mustCompress(t, codec.String{}, algorithm, nil), text)); n > len(text)/10 {
			t.Errorf("%s: %d bytes became %d", algorithm, len(text), n)
		}
	}
}

// The stored bytes are those of the formats, for whoever reads them with another tool.
func TestCompressWritesTheFormat(t *testing.T) {
	want := strings.Repeat("hello ", 100)
	data := mustEncode(t, mustCompress(t, codec.String{}, codec.Snappy, nil), want)
	if got, err := snappy.Decode(nil, data); err != nil || string(got) != want {
		t.Errorf("snappy: %q, %v", got, err)
	}
	data = mustEncode(t, mustCompress(t, codec.String{}, codec.Zstd, nil), want)
	reader, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if got, err := reader.DecodeAll(data, nil); err != nil || string(got) != want {
		t.Errorf("zstd: %q, %v", got, err)
	}
}

// Sizes around the bounds of windows, blocks and the fields of a frame's header.
func TestCompressSizes(t *testing.T) {
	sizes := []int{0, 1, 255, 256, 1023, 1024, 1025, 65791, 65792, 128<<10 - 1, 128 << 10, 128<<10 + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 9 << 20}
	random := make([]byte, sizes[len(sizes)-1])
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	text := bytes.Repeat([]byte("round and round, "), len(random)/17+1)
	for _, algorithm := range algorithms {
		c := mustCompress(t, codec.Bytes{}, algorithm, nil)
		for _, size := range sizes {
			for name, content := range map[string][]byte{"random": random, "text": text, "zeros": make([]byte, size)} {
				data := mustEncode(t, c, content[:size])
				if back := mustDecode(t, c, data); !bytes.Equal(back.([]byte), content[:size]) {
					t.Errorf("%s: %d bytes of %s came back as %d", algorithm, size, name, len(back.([]byte)))
				}
				if again := mustEncode(t, c, content[:size]); !bytes.Equal(again, data) {
					t.Errorf("%s: %d bytes of %s gave different bytes the second time", algorithm, size, name)
				}
			}
		}
	}
}

func TestCompressLimit(t *testing.T) {
	for _, algorithm := range algorithms {
		for _, limit := range []int{1, 100, 1000, 1024, 5000, 300 << 10, 2 << 20, 10 << 20} {
			t.Run(fmt.Sprintf("%s/%d", algorithm, limit), func(t *testing.T) {
				c := mustCompress(t, codec.String{}, algorithm, &codec.CompressOptions{MaxDecodedSize: limit})
				fits, over := strings.Repeat("x", limit), strings.Repeat("x", limit+1)
				if got := mustDecode(t, c, mustEncode(t, c, fits)); got != fits {
					t.Errorf("%d bytes came back as %d", limit, len(got.(string)))
				}
				_, err := c.Encode(over)
				checkSizeLimit(t, c, "encode", err)
				_, err = c.Decode(mustEncode(t, mustCompress(t, codec.String{}, algorithm, nil), over))
				checkSizeLimit(t, c, "decode", err)
				if !strings.Contains(err.Error(), fmt.Sprintf("%d bytes uncompressed, the limit is %d", limit+1, limit)) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

func checkSizeLimit(t *testing.T, c codec.Codec, op string, err error) {
	t.Helper()
	var e *codec.Error
	if !errors.Is(err, codec.ErrSizeLimit) || !errors.As(err, &e) || e.Op != op || e.CodecID != c.CodecID() {
		t.Errorf("%s: got %v, want ErrSizeLimit", op, err)
	}
}

// zstdStream is content as a program writes it that doesn't know its size beforehand (declared < 0), or does.
func zstdStream(t testing.TB, content []byte, repeat int, declared int64, opts ...zstd.EOption) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(nil, append(opts, zstd.WithEncoderConcurrency(1))...)
	if err != nil {
		t.Fatal(err)
	}
	w.ResetContentSize(&out, declared)
	for range repeat {
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestZstdReadsForeignFrames(t *testing.T) {
	content := bytes.Repeat([]byte("written by another program. "), 40000)
	for _, limit := range []int{len(content), codec.DefaultMaxDecodedSize} {
		c := mustCompress(t, codec.Bytes{}, codec.Zstd, &codec.CompressOptions{MaxDecodedSize: limit})
		for name, data := range map[string][]byte{
			"size unknown":       zstdStream(t, content, 1, -1),
			"size known":         zstdStream(t, content, 1, int64(len(content))),
			"no checksum":        zstdStream(t, content, 1, -1, zstd.WithEncoderCRC(false)),
			"large window":       zstdStream(t, content, 1, -1, zstd.WithWindowSize(8<<20)),
			"small window":       zstdStream(t, content, 1, -1, zstd.WithWindowSize(1<<10)),
			"small, known":       zstdStream(t, content, 1, int64(len(content)), zstd.WithWindowSize(1<<10)),
			"best":               zstdStream(t, content, 1, -1, zstd.WithEncoderLevel(zstd.SpeedBestCompression)),
			"nothing compressed": zstdStream(t, content, 1, -1, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithNoEntropyCompression(true)),
		} {
			if got := mustDecode(t, c, data); !bytes.Equal(got.([]byte), content) {
				t.Errorf("%s, limit %d: got %d bytes, want %d", name, limit, len(got.([]byte)), len(content))
			}
		}
	}
}

func TestCompressRefusesCorruptInput(t *testing.T) {
	for _, algorithm := range algorithms {
		c := mustCompress(t, codec.String{}, algorithm, nil)
		good := mustEncode(t, c, strings.Repeat("hunter2, ", 50))
		refuse := func(what string, data []byte) {
			t.Helper()
			value, err := c.Decode(data)
			var e *codec.Error
			if !errors.As(err, &e) || e.Op != "decode" || e.CodecID != c.CodecID() {
				t.Errorf("%s: %s: got %v, %v", algorithm, what, value, err)
			} else if errors.Is(err, codec.ErrSizeLimit) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %s: got %v", algorithm, what, err)
			}
		}
		for n := range good {
			refuse(fmt.Sprintf("the first %d of %d bytes", n, len(good)), good[:n])
		}
		for n := 1; n < 6; n++ {
			refuse(fmt.Sprintf("%d bytes too many", n), append(bytes.Clone(good), make([]byte, n)...))
		}
		refuse("twice the same", append(bytes.Clone(good), good...))
		refuse("uncompressed", []byte("hunter2, hunter2, hunter2"))
		refuse("nothing", nil)
	}
}

func TestZstdChecksum(t *testing.T) {
	c := mustCompress(t, codec.String{}, codec.Zstd, nil)
	good := mustEncode(t, c, strings.Repeat("a checksum finds what the format cannot. ", 50))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if got, err := c.Decode(bad); err == nil && got != mustDecode(t, c, good) {
			t.Errorf("byte %d changed, and so did the value, unnoticed", i)
		}
	}
}

func TestZstdRefusesWhatIsNotOneFrame(t *testing.T) {
	c := mustCompress(t, codec.String{}, codec.Zstd, nil)
	good := mustEncode(t, c, "a value")
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'y', 'z'}
	dictionary, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(7, bytes.Repeat([]byte("dictionary "), 20)))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		data []byte
		want string
	}{
		"skippable":       {skippable, "a skippable frame holds no value"},
		"skippable first": {append(bytes.Clone(skippable), good...), "a skippable frame holds no value"},
		"skippable last":  {append(bytes.Clone(good), skippable...), "data after the end of the frame"},
		"cut checksum":    {good[:len(good)-2], "the frame is cut off"},
		"dictionary":      {dictionary.EncodeAll([]byte("dictionary dictionary"), nil), "dictionary"},
		"reserved block":  {[]byte("\x28\xb5\x2f\xfd\x00\x58\x07\x00\x00"), "invalid block"},
	} {
		if value, err := c.Decode(test.data); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, %v, want %q", name, value, err, test.want)
		}
	}
}

// Errors of the inner codec come through as they are, and it isn't asked when the outer layer fails.
func TestCompressPassesErrorsOn(t *testing.T) {
	for _, algorithm := range algorithms {
		c := mustCompress(t, codec.JSON[int]{ID: "n"}, algorithm, nil)
		data := mustEncode(t, mustCompress(t, codec.String{}, algorithm, nil), "{}")
		var e *codec.Error
		if _, err := c.Decode(data); !errors.As(err, &e) || e.CodecID != "n" {
			t.Errorf("got %v", err)
		}
	}
}
