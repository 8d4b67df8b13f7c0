package codec_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/polykv/polykv/codec"
)

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// allocated is how many bytes f allocates, those that it gives back included, so it is no less than the peak.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// zstdHeader is the start of a frame: with a window of 8 MiB and no size, or else in one segment of that size.
func zstdHeader(size int64) []byte {
	header := []byte{0x28, 0xb5, 0x2f, 0xfd}
	if size < 0 {
		return append(header, 0x00, 13<<3)
	}
	return binary.LittleEndian.AppendUint64(append(header, 0xe0), uint64(size))
}

// zstdRuns appends blocks that each stand for size zeros.
func zstdRuns(frame []byte, blocks, size int) []byte {
	for i := range blocks {
		header := uint32(size)<<3 | 1<<1
		if i == blocks-1 {
			header |= 1
		}
		frame = append(frame, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return frame
}

// withZstdSize gives the blocks of a frame that has neither size nor checksum another header.
func withZstdSize(t *testing.T, frame []byte, size int64) []byte {
	t.Helper()
	var header zstd.Header
	if err := header.Decode(frame); err != nil || header.HasFCS || header.HasCheckSum {
		t.Fatalf("%+v, %v", header, err)
	}
	return append(zstdHeader(size), frame[header.HeaderSize:]...)
}

type bomb struct {
	name string
	data []byte

	overLimit bool // refused for its size, not for being corrupt
	cheap     bool // refused before anything is allocated for it
}

// zstdSources are frames of zeros and of data that repeats from far back, which take different paths through the
// decoder, without a size and a checksum.
func zstdSources(t *testing.T) (zeros, far []byte) {
	zeros = zstdStream(t, make([]byte, mib), 1024, -1, zstd.WithEncoderCRC(false), zstd.WithEncoderLevel(zstd.SpeedFastest))
	random := make([]byte, mib)
	_, _ = rand.NewChaCha8([32]byte{}).Read(random)
	far = zstdStream(t, random, 128, -1, zstd.WithEncoderCRC(false), zstd.WithWindowSize(4*mib))
	return zeros, far
}

func zstdBombs(t *testing.T, zeros, far []byte, limit int) []bomb {
	decoded := limit >= 8*mib // below this, the bounds that the frame itself sets show that it's corrupt
	claim := int64(limit)
	frames := bytes.Repeat(zstdRuns(zstdHeader(128*kib), 1, 128*kib), 8192)
	return []bomb{
		{"1 GiB of zeros", zeros, true, false},
		{"1 GiB of zeros, as the header says", withZstdSize(t, zeros, gib), true, true},
		{"1 GiB of zeros, 1000 bytes by the header", withZstdSize(t, zeros, 1000), false, true},
		{"1 GiB of zeros, the limit by the header", withZstdSize(t, zeros, claim), decoded, false},
		{"128 MiB of far matches", far, true, false},
		{"128 MiB of far matches, the limit by the header", withZstdSize(t, far, claim), decoded, !decoded},
		{"1 GiB of runs", zstdRuns(zstdHeader(-1), 8192, 128*kib), true, true},
		{"1 GiB of runs, the limit by the header", zstdRuns(zstdHeader(claim), 8192, 128*kib), false, true},
		{"1 GiB of frames", frames, false, true},
		{"8 EiB by the header", zstdRuns(zstdHeader(math.MaxInt64), 1, 10), false, true},
		{"the limit by the header, in 14 bytes", zstdRuns(zstdHeader(claim), 1, 0), false, true},
		{"a window of 3.75 TiB", append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff}, 0x01, 0, 0), false, true},
		{"a skippable frame of 4 GiB", []byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff}, false, true},
		{"a run of 2 MiB", zstdRuns(zstdHeader(-1), 1, 1<<21-1), false, true},
	}
}

func snappyBombs(zeros []byte, limit int) []bomb {
	claim := binary.AppendUvarint(nil, uint64(limit))
	return []bomb{
		{"128 MiB of zeros", zeros, true, true},
		{"4 GiB by the header", []byte{0xff, 0xff, 0xff, 0xff, 0x0f}, true, true},
		{"4 GiB by the header, and some data", append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, make([]byte, 100)...), true, true},
		{"16 EiB by the header", []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, false, true},
		{"an endless header", bytes.Repeat([]byte{0xff}, 100), false, true},
		{"the limit by the header, in 10 bytes", append(claim, 0, 'x', 0xfe, 1, 0), false, true},
	}
}

func TestBombs(t *testing.T) {
	zeros, far := zstdSources(t)
	snappyZeros := snappy.Encode(nil, make([]byte, 128*mib))
	for _, limit := range []int{64 * kib, 16 * mib, codec.DefaultMaxDecodedSize} {
		for algorithm, bombs := range map[codec.Algorithm][]bomb{
			codec.Zstd:   zstdBombs(t, zeros, far, limit),
			codec.Snappy: snappyBombs(snappyZeros, limit),
		} {
			c := mustCompress(t, codec.Bytes{}, algorithm, &codec.CompressOptions{MaxDecodedSize: limit})
			for _, b := range bombs {
				t.Run(fmt.Sprintf("%s/%d/%s", algorithm, limit, b.name), func(t *testing.T) { b.check(t, c, limit) })
			}
		}
	}
}

func (b bomb) check(t *testing.T, c codec.Codec, limit int) {
	var err error
	n := allocated(func() { _, err = c.Decode(b.data) })
	if err == nil || errors.Is(err, codec.ErrSizeLimit) != b.overLimit {
		t.Errorf("got %v", err)
	}
	most := uint64(max(limit, 8*mib) + mib) // what Compress documents
	if b.cheap {
		most = 64 * kib
	}
	if n > most {
		t.Errorf("%d bytes allocated for %d, want at most %d", n, len(b.data), most)
	}
}

// An honest value costs its size, not that of a block.
func TestDecodeAllocatesWhatTheValueTakes(t *testing.T) {
	for _, algorithm := range algorithms {
		c := mustCompress(t, codec.Bytes{}, algorithm, nil)
		for _, size := range []int{10, 200, 500, 5000, 100 * kib, 4 * mib} {
			data := mustEncode(t, c, bytes.Repeat([]byte("abcdefghij"), size/10))
			for range 2 * runtime.GOMAXPROCS(0) { // the first use of each decoder allocates its tables
				mustDecode(t, c, data)
			}
			n := allocated(func() { mustDecode(t, c, data) })
			if most := uint64(2*size + size/8 + 64*kib); n > most { // uncompressed, copied by Bytes, and what pools drop
				t.Errorf("%s: %d bytes allocated for a value of %d", algorithm, n, size)
			}
		}
	}
}
