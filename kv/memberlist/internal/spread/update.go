package spread

import (
	"encoding/binary"

	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// Limits of what a node takes from another, in bytes.
const (
	maxKey    = 512 // as rule K1
	maxCodec  = 255 // of a codec's id
	maxName   = 255 // of a node
	maxRecord = 256 << 20
)

// An item is one thing that a frame says: an update, or that there is one,
// of size bytes, which is too large for a frame.
type item struct {
	state.Update
	announced bool
	size      uint64
}

// What the first byte of an encoded item says.
const (
	itemPartial   = 1 << iota
	itemHasE      // else E is zero
	itemHasV      // else V is zero: a deletion
	itemSameCodec // as the item before
	itemAnnounced // the size of the value instead of the value
	itemKnown     = itemPartial | itemHasE | itemHasV | itemSameCodec | itemAnnounced
)

// appendItem encodes it behind items of the given codec.
func appendItem(b []byte, it *item, codec string) []byte {
	var flags byte
	if it.Partial {
		flags |= itemPartial
	}
	if !it.E.IsZero() {
		flags |= itemHasE
	}
	if !it.V.IsZero() {
		flags |= itemHasV
	}
	if it.Codec == codec {
		flags |= itemSameCodec
	}
	if it.announced {
		flags |= itemAnnounced
	}
	b = append(b, flags)
	if it.Codec != codec {
		b = state.AppendBytes(b, it.Codec)
	}
	b = state.AppendBytes(b, it.Key)
	if !it.E.IsZero() {
		b = it.E.Append(b)
	}
	if !it.V.IsZero() {
		b = it.V.Append(b)
	}
	if it.announced {
		return binary.AppendUvarint(b, it.size)
	}
	return state.AppendBytes(b, it.Value)
}

// itemSize is at least the length of what appendItem appends.
func itemSize(it *item) int {
	const overhead = 1 + 2*state.VersionSize + 3*binary.MaxVarintLen32
	n := overhead + len(it.Codec) + len(it.Key)
	if !it.announced {
		n += len(it.Value)
	}
	return n
}

// decodeItem reads an item behind those of the given codec. Its Value shares
// the message's memory; limit is that of the value's bytes.
func decodeItem(d *decoder, codec string, limit int) item {
	flags := d.Byte("item")
	if flags&^itemKnown != 0 {
		d.Fail("flags of an item")
	}
	var it item
	it.Codec = codec
	if flags&itemSameCodec == 0 {
		it.Codec = d.codec(codec)
	}
	it.Key = string(d.Bytes(maxKey, "key"))
	if flags&itemHasE != 0 {
		it.E = d.Version("deletion version")
	}
	if flags&itemHasV != 0 {
		it.V = d.Version("version")
	}
	it.Partial = flags&itemPartial != 0
	if it.announced = flags&itemAnnounced != 0; it.announced {
		it.size = d.Uvarint("size")
	} else {
		it.Value = d.Bytes(limit, "value")
	}
	if d.Err == nil && it.Key == "" {
		d.Fail("empty key")
	}
	return it
}

// codec reads the id of a codec: nearly always one that is known, whose memory
// it shares.
func (d *decoder) codec(before string) string {
	b := d.Bytes(maxCodec, "codec")
	if string(b) == before {
		return before
	}
	for _, id := range d.codecs {
		if string(b) == id {
			return id
		}
	}
	return string(b)
}
