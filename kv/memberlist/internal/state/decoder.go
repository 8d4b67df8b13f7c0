package state

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is the root of every failure to decode a message.
var ErrMalformed = errors.New("malformed message")

// A Decoder reads the fields of one message. It never allocates: byte fields
// share the message's memory. After the first field that does not fit, all
// others are zero and Err tells the first.
type Decoder struct {
	Rest []byte // of the message
	Err  error
}

// Fail notes that a field is wrong.
func (d *Decoder) Fail(what string) {
	if d.Err == nil {
		d.Err = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	d.Rest = nil
}

// Byte reads one byte.
func (d *Decoder) Byte(what string) byte {
	b := d.take(1, what)
	if b == nil {
		return 0
	}
	return b[0]
}

// Bool reads one byte that is 0 or 1.
func (d *Decoder) Bool(what string) bool {
	v := d.Byte(what)
	if v > 1 {
		d.Fail(what)
	}
	return v == 1
}

// Uvarint reads a number of one to ten bytes.
func (d *Decoder) Uvarint(what string) uint64 {
	v, n := binary.Uvarint(d.Rest)
	if n <= 0 {
		d.Fail(what)
		return 0
	}
	d.Rest = d.Rest[n:]
	return v
}

// Uint64 reads a number of eight bytes.
func (d *Decoder) Uint64(what string) uint64 {
	b := d.take(8, what)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Bytes reads a field that carries its length, of at most limit bytes, in place.
func (d *Decoder) Bytes(limit int, what string) []byte {
	n := d.Uvarint(what)
	if n > uint64(limit) { //nolint:gosec // not negative
		d.Fail(what)
		return nil
	}
	return d.take(int(n), what) //nolint:gosec // within limit
}

// Count reads the number of elements that follow, each of which takes at least
// size bytes: more than fit into the message are refused before anything is
// allocated for them.
func (d *Decoder) Count(size int, what string) int {
	n := d.Uvarint(what)
	if n > uint64(len(d.Rest)/size) { //nolint:gosec // not negative
		d.Fail(what)
		return 0
	}
	return int(n) //nolint:gosec // there are fewer bytes
}

// Version reads what [Version.Append] wrote.
func (d *Decoder) Version(what string) Version {
	stamp, instance := d.Uint64(what), d.Uint64(what)
	if d.Err != nil {
		return Version{}
	}
	return Version{Wall: stamp >> 16, Counter: uint16(stamp), Instance: instance} //nolint:gosec // the low 16 bits
}

// Digest reads what [Digest.Append] wrote.
func (d *Decoder) Digest(what string) Digest {
	return Digest{Hi: d.Uint64(what), Lo: d.Uint64(what)}
}

// Done reports whether the message is complete, with nothing behind it.
func (d *Decoder) Done() error {
	if d.Err == nil && len(d.Rest) != 0 {
		d.Fail("bytes behind the end")
	}
	return d.Err
}

// take returns the next n bytes, in place.
func (d *Decoder) take(n int, what string) []byte {
	if n < 0 || n > len(d.Rest) || d.Err != nil {
		d.Fail(what)
		return nil
	}
	b := d.Rest[:n:n]
	d.Rest = d.Rest[n:]
	return b
}

// AppendBytes appends a field with its length, as [Decoder.Bytes] reads it.
func AppendBytes[F string | []byte](b []byte, field F) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

// AppendBool appends what [Decoder.Bool] reads.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
