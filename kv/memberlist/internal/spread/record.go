package spread

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// recordWriter sends records, which are encoded items, as one run of bytes
// cut into messages of up to chunkSize. A record is its length and its bytes.
type recordWriter struct {
	stream  *stream
	buf     []byte // not yet sent
	scratch []byte
}

func (w *recordWriter) write(it *item) error {
	value := it.Value
	head := item{Update: it.Update}
	head.Value = nil
	// An item ends with its value, so the value needs no copy here.
	w.scratch = appendItem(w.scratch[:0], &head, "")
	w.scratch = binary.AppendUvarint(w.scratch[:len(w.scratch)-1], uint64(len(value)))
	w.buf = binary.AppendUvarint(w.buf, uint64(len(w.scratch)+len(value)))
	w.buf = append(w.buf, w.scratch...)
	for {
		n := max(min(chunkSize-len(w.buf), len(value)), 0)
		w.buf = append(w.buf, value[:n]...)
		value = value[n:]
		if len(w.buf) < chunkSize {
			return nil
		}
		if err := w.flush(); err != nil {
			return err
		}
	}
}

func (w *recordWriter) flush() error {
	for len(w.buf) > 0 {
		n := min(len(w.buf), chunkSize)
		if err := w.stream.send(msgData, w.buf[:n]); err != nil {
			return err
		}
		w.buf = w.buf[:copy(w.buf, w.buf[n:])]
	}
	return nil
}

// end sends what is left, and msgEnd.
func (w *recordWriter) end() error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.stream.send(msgEnd)
}

// recordReader reads what a recordWriter wrote.
type recordReader struct {
	stream *stream
	chunk  []byte // of the last message, not yet read
	ended  bool
}

// next returns the next record, in memory of its own, or io.EOF.
func (r *recordReader) next() (item, error) {
	size, err := r.size()
	if err != nil {
		return item{}, err
	}
	if size > maxRecord {
		return item{}, fmt.Errorf("%w: a record of %d bytes, at most %d are allowed", errMalformed, size, maxRecord)
	}
	record, err := r.collect(int(size))
	if err != nil {
		return item{}, err
	}
	d := newDecoder(record)
	it := decodeItem(&d, "", len(record))
	return it, d.Done()
}

// size reads a record's length, which may be cut by the end of a message.
func (r *recordReader) size() (uint64, error) {
	var v uint64
	for shift := 0; ; shift += 7 {
		if shift > 28 { // maxRecord is less
			return 0, fmt.Errorf("%w: length of a record", errMalformed)
		}
		if len(r.chunk) == 0 {
			if err := r.more(); err != nil {
				if errors.Is(err, io.EOF) && shift > 0 {
					err = fmt.Errorf("%w: a record that ends early", errMalformed)
				}
				return 0, err
			}
		}
		b := r.chunk[0]
		r.chunk = r.chunk[1:]
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
}

// collect reads n bytes. A length is a claim: memory grows with what has
// arrived.
func (r *recordReader) collect(n int) ([]byte, error) {
	record := make([]byte, 0, min(n, chunkSize))
	for len(record) < n {
		if len(r.chunk) == 0 {
			if err := r.more(); err != nil {
				if errors.Is(err, io.EOF) {
					err = fmt.Errorf("%w: a record that ends early", errMalformed)
				}
				return nil, err
			}
		}
		take := min(n-len(record), len(r.chunk))
		if cap(record)-len(record) < take {
			grown := make([]byte, len(record), min(n, 4*(len(record)+take)))
			copy(grown, record)
			record = grown
		}
		record = append(record, r.chunk[:take]...)
		r.chunk = r.chunk[take:]
	}
	return record, nil
}

// more reads the next message with data. io.EOF: there is none.
func (r *recordReader) more() error {
	if r.ended {
		return io.EOF
	}
	kind, body, err := r.stream.receive()
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case err != nil:
		return err
	case kind == msgEnd:
		r.ended = true
		return io.EOF
	case kind == msgBusy:
		return &busyError{helpers: bytes.Clone(body)}
	case kind != msgData || len(body) == 0:
		return fmt.Errorf("%w: kind %d of %d bytes amid records", errMalformed, kind, len(body))
	}
	r.chunk = body
	return nil
}
