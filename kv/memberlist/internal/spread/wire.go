package spread

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// wireVersion is the first byte of every packet and of every message on a
// stream. Another version is refused and counted, never guessed at.
const wireVersion = 2

// errMalformed is the root of every failure to decode a message.
var errMalformed = errors.New("malformed message")

// A decoder reads the fields of one message. It never allocates: byte fields
// share the message's memory. After the first field that does not fit, all
// others are zero and err tells the first.
type decoder struct {
	rest   []byte
	err    error
	codecs []string // ids that need no memory of their own; may be nil
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errMalformed, what)
	}
	d.rest = nil
}

func (d *decoder) byte(what string) byte {
	if len(d.rest) == 0 {
		d.fail(what)
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint(what string) uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail(what)
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) uint64(what string) uint64 {
	b := d.take(8, what)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// take returns the next n bytes, in place.
func (d *decoder) take(n int, what string) []byte {
	if n < 0 || n > len(d.rest) || d.err != nil {
		d.fail(what)
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// bytes returns a field that carries its length, of at most limit bytes, in
// place.
func (d *decoder) bytes(limit int, what string) []byte {
	n := d.uvarint(what)
	if n > uint64(limit) {
		d.fail(what)
		return nil
	}
	return d.take(int(n), what)
}

// count returns the number of elements that follow, each of which takes at
// least size bytes: more than fit into the message are refused before
// anything is allocated for them.
func (d *decoder) count(size int, what string) int {
	n := d.uvarint(what)
	if n > uint64(len(d.rest)/size) {
		d.fail(what)
		return 0
	}
	return int(n)
}

// done reports whether the message is complete, with nothing behind it.
func (d *decoder) done() error {
	if d.err == nil && len(d.rest) != 0 {
		d.fail("bytes behind the end")
	}
	return d.err
}

func appendBytes(b, field []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}

func appendString(b []byte, field string) []byte {
	b = binary.AppendUvarint(b, uint64(len(field)))
	return append(b, field...)
}
