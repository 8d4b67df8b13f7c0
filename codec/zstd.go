package codec

import (
	"errors"
	"runtime"

	"github.com/klauspost/compress/zstd"
)

const (
	// zstdMagic begins every frame (RFC 8878, section 3.1.1).
	zstdMagic = "\x28\xb5\x2f\xfd"

	// zstdWindow is how far back our frames refer. A larger one costs memory and gains little on values that a store
	// takes.
	zstdWindow = 1 << 20

	// zstdMinMemory is a window that every decoder should support (RFC 8878, section 3.1.1.1.2), and so the least
	// memory that decoding may use, however low the limit on the result.
	zstdMinMemory = 8 << 20

	// zstdMaxBlock is the most that a block holds, uncompressed (RFC 8878, section 3.1.1.2.4).
	zstdMaxBlock = 128 << 10

	// zstdSlack is read and written beyond the end by the decoder's fast copies.
	zstdSlack = 16

	// An encoder has tables of about 1.3 MiB, and more encoders than this rarely run at once.
	zstdMaxEncoders = 4
)

// zstdFormat uses only EncodeAll and DecodeAll, which are safe for concurrent use and start no goroutines.
type zstdFormat struct {
	encoder   *zstd.Encoder
	decoder   *zstd.Decoder
	maxMemory int // what the decoder may write before it gives up, in bytes
}

func newZstdFormat(limit int) (*zstdFormat, error) {
	encoder, err := zstd.NewWriter(
		nil,
		zstd.WithEncoderConcurrency(min(runtime.GOMAXPROCS(0), zstdMaxEncoders)),
		zstd.WithWindowSize(zstdWindow),
		zstd.WithLowerEncoderMem(true),
		zstd.WithZeroFrames(true), // older versions would write nothing for an empty value
	)
	if err != nil {
		return nil, err
	}
	maxMemory := max(limit, zstdMinMemory)
	decoder, err := zstd.NewReader(
		nil,
		zstd.WithDecoderConcurrency(0), // as many as GOMAXPROCS
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(maxMemory)),
	)
	if err != nil {
		return nil, err
	}
	return &zstdFormat{encoder: encoder, decoder: decoder, maxMemory: maxMemory}, nil
}

func (z *zstdFormat) compress(dst, src []byte) []byte {
	return z.encoder.EncodeAll(src, dst[:0])
}

func (z *zstdFormat) decompress(src []byte, limit int) ([]byte, error) {
	frame, err := parseZstdFrame(src)
	if err != nil {
		return nil, err
	}
	if least := frame.leastSize(); least > uint64(limit) {
		return nil, sizeError{size: least, limit: limit}
	}
	plain, err := z.decoder.DecodeAll(src, make([]byte, 0, z.room(frame)))
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return nil, sizeError{size: uint64(len(plain)), limit: limit}
	}
	if err != nil {
		return nil, err
	}
	if len(plain) > limit {
		return nil, sizeError{size: uint64(len(plain)), limit: limit}
	}
	return plain, nil
}

// room is the capacity with which the decoder never has to move what it has already written. It notices only after a
// block that the frame is longer than it claims, or than the decoder may write, so there is room for one block more; a
// small buffer does without, since moving it is cheap.
func (z *zstdFormat) room(frame zstdFrame) int {
	size := int(min(frame.mostSize(), uint64(z.maxMemory)))
	if size >= 8*zstdMaxBlock {
		size += zstdMaxBlock
	}
	return size + zstdSlack
}
