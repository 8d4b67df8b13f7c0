package codec

import (
	"errors"

	"github.com/klauspost/compress/snappy"
)

type snappyFormat struct{}

func (snappyFormat) compress(dst, src []byte) []byte {
	return snappy.Encode(dst[:cap(dst)], src)
}

// The densest element of a snappy block is a copy of 64 bytes said in 3.
// https://github.com/google/snappy/blob/main/format_description.txt
const (
	snappyMaxCopy = 64
	snappyMinCost = 3
)

var errSnappyLength = errors.New("snappy: corrupt input: it cannot hold as much as its header says")

func (snappyFormat) decompress(src []byte, limit int) ([]byte, error) {
	size, err := snappy.DecodedLen(src)
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, sizeError{size: uint64(size), limit: limit}
	}
	if uint64(size) > uint64(len(src))*snappyMaxCopy/snappyMinCost {
		return nil, errSnappyLength
	}
	return snappy.Decode(make([]byte, size), src)
}
