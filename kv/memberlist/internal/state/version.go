package state

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"time"
)

// maxWall is the last millisecond that a Version can name, in the year 10889.
const maxWall = 1<<48 - 1

// VersionSize is the size of an encoded [Version], in bytes.
const VersionSize = 16

// Version names one write in the whole cluster and orders all of them. The
// zero Version is before every write and stands for none.
type Version struct {
	Wall     uint64 // milliseconds since 1970 UTC, 48 bits
	Counter  uint16 // tells writes of one millisecond apart
	Instance uint64 // of the node that wrote; random for each start of a node
}

// Compare returns -1, 0 or 1 as v is before, the same as or after o.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Wall, o.Wall), cmp.Compare(v.Counter, o.Counter), cmp.Compare(v.Instance, o.Instance))
}

// After reports whether v is after o.
func (v Version) After(o Version) bool { return v.Compare(o) > 0 }

// IsZero reports whether v stands for no write.
func (v Version) IsZero() bool { return v == Version{} }

// Time is the wall clock of v.
func (v Version) Time() time.Time { return time.UnixMilli(int64(v.Wall)) } //nolint:gosec // 48 bits

// String returns v in a form for people.
func (v Version) String() string {
	if v.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%s+%d@%016x", v.Time().UTC().Format("2006-01-02T15:04:05.000Z"), v.Counter, v.Instance)
}

// Append appends the encoded v to b: [VersionSize] bytes, ordered as versions
// are.
func (v Version) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, v.Wall<<16|uint64(v.Counter))
	return binary.BigEndian.AppendUint64(b, v.Instance)
}

// next is the version after v of the instance, not before wall.
func (v Version) next(wall uint64, instance uint64) Version {
	switch {
	case v.Wall < wall:
		return Version{Wall: wall, Instance: instance}
	case v.Counter < 1<<16-1:
		return Version{Wall: v.Wall, Counter: v.Counter + 1, Instance: instance}
	default:
		return Version{Wall: v.Wall + 1, Instance: instance}
	}
}
