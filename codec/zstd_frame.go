package codec

import (
	"errors"

	"github.com/klauspost/compress/zstd"
)

var (
	errZstdSkippable = errors.New("zstd: a skippable frame holds no value")
	errZstdCut       = errors.New("zstd: the frame is cut off")
	errZstdTrailing  = errors.New("zstd: data after the end of the frame")
	errZstdBlock     = errors.New("zstd: corrupt input: invalid block")
	errZstdLength    = errors.New("zstd: corrupt input: its blocks cannot hold what the header of the frame says")
)

// zstdFrame is what can be said about the size of a frame's content without decoding it.
type zstdFrame struct {
	hasSize bool
	size    uint64 // as the header has it, if it does
	exact   uint64 // content of raw and run-length blocks, whose headers say it
	bound   uint64 // the most that all blocks together can hold
}

// leastSize is what the content has at least, if the frame is valid.
func (f zstdFrame) leastSize() uint64 {
	if f.hasSize {
		return f.size
	}
	return f.exact
}

// mostSize is what the content has at most, if the frame is valid.
func (f zstdFrame) mostSize() uint64 {
	if f.hasSize {
		return f.size
	}
	return f.bound
}

// parseZstdFrame walks over the headers in src, which must be exactly one frame. The decoder would also take several
// frames one after the other, none at all, and up to three stray bytes at the end. Knowing the frame's bounds before
// it is decoded is what allows for one allocation of the right size.
func parseZstdFrame(src []byte) (zstdFrame, error) {
	var header zstd.Header
	if err := header.Decode(src); err != nil {
		return zstdFrame{}, err
	}
	if header.Skippable {
		return zstdFrame{}, errZstdSkippable
	}
	maxBlock := uint64(zstdMaxBlock)
	if !header.SingleSegment {
		maxBlock = min(maxBlock, header.WindowSize)
	}
	frame := zstdFrame{hasSize: header.HasFCS, size: header.FrameContentSize}
	rest, err := frame.addBlocks(src[header.HeaderSize:], maxBlock)
	if err != nil {
		return zstdFrame{}, err
	}
	trailer := 0
	if header.HasCheckSum {
		trailer = 4
	}
	switch {
	case len(rest) < trailer:
		return zstdFrame{}, errZstdCut
	case len(rest) > trailer:
		return zstdFrame{}, errZstdTrailing
	case frame.hasSize && (frame.size < frame.exact || frame.size > frame.bound):
		return zstdFrame{}, errZstdLength
	}
	return frame, nil
}

// addBlocks adds up the blocks at the start of src and returns what follows the last of them (RFC 8878, section 3.1.1.2).
func (f *zstdFrame) addBlocks(src []byte, maxBlock uint64) (rest []byte, err error) {
	const headerSize = 3
	for last := false; !last; {
		if len(src) < headerSize {
			return nil, errZstdCut
		}
		header := uint32(src[0]) | uint32(src[1])<<8 | uint32(src[2])<<16
		src = src[headerSize:]
		last = header&1 != 0
		size := header >> 3
		stored := int(size)
		switch header >> 1 & 3 {
		case 0: // raw
			f.exact += uint64(size)
			f.bound += uint64(size)
		case 1: // run-length: one byte, repeated
			f.exact += uint64(size)
			f.bound += uint64(size)
			stored = 1
		case 2: // compressed
			f.bound += maxBlock
		default:
			return nil, errZstdBlock
		}
		if uint64(size) > maxBlock {
			return nil, errZstdBlock
		}
		if len(src) < stored {
			return nil, errZstdCut
		}
		src = src[stored:]
	}
	return src, nil
}
