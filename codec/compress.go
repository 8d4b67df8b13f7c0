package codec

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
)

// Algorithm is a compression format of [Compress].
type Algorithm string

const (
	// Snappy is the block format of snappy (not its framing format): fast, a moderate ratio, no checksum.
	Snappy Algorithm = "snappy"

	// Zstd is Zstandard: a better ratio for more work, and a checksum. A value is exactly one frame of RFC 8878,
	// without a dictionary. Frames of other programs are read as well, with or without their content size in the header.
	Zstd Algorithm = "zstd"
)

// Bounds of CompressOptions.MaxDecodedSize, in bytes.
const (
	DefaultMaxDecodedSize = 64 << 20
	LargestMaxDecodedSize = 1 << 30
)

// CompressOptions are the options of [Compress]. The zero value has the defaults.
type CompressOptions struct {
	// MaxDecodedSize is the largest size of a value before compression, in bytes: 1 to LargestMaxDecodedSize, 0 for
	// DefaultMaxDecodedSize. Encode and Decode refuse what is larger with ErrSizeLimit.
	MaxDecodedSize int
}

// Compress returns a codec that compresses what inner encodes. Nil options are the defaults. It fails if inner is nil,
// the algorithm unknown or an option out of bounds.
//
// Its CodecID is inner's followed by "+" and the algorithm, as in "string+zstd".
//
// Decode bounds its memory whatever the bytes claim: uncompressing takes no more than MaxDecodedSize (or 8 MiB, where
// that is more: the window of zstd) and less than 1 MiB beside it, and what inner.Decode takes comes on top. Sizes
// that the rest of the input can't fill are refused before anything is allocated for them.
//
// Errors of inner are returned as they are. The codec starts no goroutine and needs no closing; a zstd codec keeps
// working memory of some MiB per processor from its first use on, so share it rather than making many.
func Compress(inner Codec, algorithm Algorithm, opts *CompressOptions) (Codec, error) {
	if inner == nil {
		return nil, errors.New("codec: Compress needs a codec to compress the values of")
	}
	limit := DefaultMaxDecodedSize
	if opts != nil && opts.MaxDecodedSize != 0 {
		limit = opts.MaxDecodedSize
	}
	if limit < 1 || limit > LargestMaxDecodedSize {
		return nil, fmt.Errorf("codec: Compress: MaxDecodedSize is %d, allowed are 1 to %d bytes", limit, LargestMaxDecodedSize)
	}
	c := &compressed{inner: inner, id: inner.CodecID() + "+" + string(algorithm), limit: limit}
	switch algorithm {
	case Snappy:
		c.format = snappyFormat{}
	case Zstd:
		zstd, err := newZstdFormat(limit)
		if err != nil {
			return nil, fmt.Errorf("codec: Compress: %w", err)
		}
		c.format = zstd
	default:
		return nil, fmt.Errorf("codec: Compress: unknown algorithm %q, allowed are %q and %q", algorithm, Snappy, Zstd)
	}
	return c, nil
}

// format is one compression format. Its methods are safe for concurrent use.
type format interface {
	// compress returns src compressed, in dst if its capacity suffices.
	compress(dst, src []byte) []byte

	// decompress returns what src holds in a new slice, never nil, of at most limit bytes (ErrSizeLimit).
	decompress(src []byte, limit int) ([]byte, error)
}

type compressed struct {
	inner   Codec
	id      string
	limit   int
	format  format
	scratch sync.Pool // of *[]byte, what compress writes to
}

func (c *compressed) CodecID() string { return c.id }

func (c *compressed) Encode(value any) ([]byte, error) {
	plain, err := c.inner.Encode(value)
	if err != nil {
		return nil, err
	}
	if len(plain) > c.limit {
		// Nobody could read it back.
		return nil, encodeError(c.id, overLimit(uint64(len(plain)), c.limit), ErrSizeLimit)
	}
	scratch, _ := c.scratch.Get().(*[]byte)
	if scratch == nil {
		scratch = new([]byte)
	}
	packed := c.format.compress(*scratch, plain)
	// Compressors ask for room for the worst case. The caller may keep the result for long, so it gets a fitting copy.
	data := clone(packed)
	if cap(packed) <= maxScratch {
		*scratch = packed[:0]
	}
	c.scratch.Put(scratch)
	return data, nil
}

// maxScratch keeps one huge value from occupying memory for good.
const maxScratch = 4 << 20

func (c *compressed) Decode(data []byte) (any, error) {
	plain, err := c.format.decompress(data, c.limit)
	if err != nil {
		return nil, decodeError(c.id, err.Error(), err)
	}
	return c.inner.Decode(plain)
}

func (c *compressed) wrote(data []byte) (yes, known bool) {
	if _, ok := c.format.(*zstdFormat); !ok {
		return false, false
	}
	return bytes.HasPrefix(data, []byte(zstdMagic)), true
}

// acceptsAnything holds for snappy, which has no mark and no checksum.
func (c *compressed) acceptsAnything() bool {
	_, ok := c.format.(snappyFormat)
	return ok && acceptsAnything(c.inner)
}

func overLimit(size uint64, limit int) string {
	return fmt.Sprintf("%d bytes uncompressed, the limit is %d", size, limit)
}

// sizeError is ErrSizeLimit with the numbers in its text.
type sizeError struct {
	size  uint64
	limit int
}

func (e sizeError) Error() string { return overLimit(e.size, e.limit) }
func (e sizeError) Unwrap() error { return ErrSizeLimit }
