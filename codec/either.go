package codec

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
)

// Either returns a codec that writes with one codec and reads what any of several has written. With it the format of
// stored values changes while programs run, in two roll-outs:
//
//	codec.Either(oldCodec, newCodec) // first everywhere: reads both, writes the old format
//	codec.Either(newCodec, oldCodec) // then: reads both, writes the new one
//
// All of them must decode to the same Go type. When every stored value has been written anew, newCodec alone will do.
//
// The bytes must tell which codec wrote them. What zstd and [Encrypt] write says so by itself: such bytes are left to
// those codecs, whose error is final, so that nobody takes a value that was damaged, or encrypted with an unknown key, for
// plain text. Other codecs are tried in the order given, write first, and the first that accepts the bytes reads them;
// so put a codec that refuses much, as JSON does, before one that accepts much, as Proto does. [String] and [Bytes],
// which accept everything, come last wherever they are given. So does snappy around them, which can't be told from them,
// and two such codecs are refused.
//
// Its CodecID is that of write. By gossip that makes the second roll-out a new format, which nodes of the first one
// don't look for: there, give the codec of the second roll-out, and newCodec later, the old id by [WithID].
//
// Either fails on a codec that is nil and where there is nothing to read besides. The errors of Encode are those of
// write. Decode fails as well where another codec reads a type of value that write refuses, since nobody could write it back.
func Either(write Codec, alsoRead ...Codec) (Codec, error) {
	if write == nil {
		return nil, errors.New("codec: Either needs a codec to write with")
	}
	if len(alsoRead) == 0 {
		return nil, errors.New("codec: Either needs a second codec to read with")
	}
	e := &either{write: write}
	var last *reader
	for i, c := range append([]Codec{write}, alsoRead...) {
		r := reader{c, i == 0}
		switch {
		case c == nil:
			return nil, errors.New("codec: Either: a codec to read with is nil")
		case acceptsAnything(c) && last != nil:
			return nil, fmt.Errorf("codec: Either: the bytes of %s and of %s can't be told apart; zstd and encrypted values can be, from anything",
				last.CodecID(), c.CodecID())
		case acceptsAnything(c):
			last = &r
		default:
			e.read = append(e.read, r)
		}
	}
	if last != nil {
		e.read = append(e.read, *last)
	}
	return e, nil
}

// marked is implemented by codecs whose bytes say who wrote them.
type marked interface {
	// wrote reports whether data begins as what the codec writes does; known is false if nothing can be said.
	wrote(data []byte) (yes, known bool)
}

// loose is implemented by codecs that may accept whatever bytes there are.
type loose interface{ acceptsAnything() bool }

func (String) acceptsAnything() bool { return true }
func (Bytes) acceptsAnything() bool  { return true }

func acceptsAnything(c Codec) bool {
	l, ok := c.(loose)
	return ok && l.acceptsAnything()
}

// wrote is marked's method of any codec.
func wrote(c Codec, data []byte) (yes, known bool) {
	if m, ok := c.(marked); ok {
		return m.wrote(data)
	}
	return false, false
}

type either struct {
	write    Codec
	read     []reader // in the order in which they are tried
	writable sync.Map // of reflect.Type: types that write is known to take
}

type reader struct {
	Codec
	writes bool // it is the one that writes as well
}

func (e *either) CodecID() string { return e.write.CodecID() }

func (e *either) Encode(value any) ([]byte, error) { return e.write.Encode(value) }

func (e *either) Decode(data []byte) (any, error) {
	var tried []string
	var causes []error
	for _, c := range e.readers(data) {
		value, err := c.Decode(data)
		if err == nil {
			return e.checked(c, value)
		}
		tried = append(tried, c.CodecID()+": "+reason(err))
		causes = append(causes, err)
	}
	return nil, decodeError(e.CodecID(), "no codec reads this: "+strings.Join(tried, "; "), errors.Join(causes...))
}

// readers returns the codecs to try: those that have certainly written data, or all that may have.
func (e *either) readers(data []byte) []reader {
	var certain, possible []reader
	for _, r := range e.read {
		switch yes, known := wrote(r.Codec, data); {
		case yes:
			certain = append(certain, r)
		case !known:
			possible = append(possible, r)
		}
	}
	switch {
	case len(certain) > 0:
		return certain
	case len(possible) > 0:
		return possible
	}
	return e.read // each says what it misses
}

// checked returns a value that r read if it can be written back, which is tried once for each type.
func (e *either) checked(r reader, value any) (any, error) {
	if r.writes {
		return value, nil
	}
	t := reflect.TypeOf(value)
	if _, known := e.writable.Load(t); known {
		return value, nil
	}
	if _, err := e.write.Encode(value); err != nil {
		return nil, decodeError(e.CodecID(), fmt.Sprintf("read by %s, the value can't be written back: %s", r.CodecID(), reason(err)), err)
	}
	e.writable.Store(t, nil)
	return value, nil
}

func (e *either) wrote(data []byte) (yes, known bool) {
	known = true
	for _, r := range e.read {
		is, sure := wrote(r.Codec, data)
		if is {
			return true, true
		}
		known = known && sure
	}
	return false, known
}

func (e *either) acceptsAnything() bool { return acceptsAnything(e.read[len(e.read)-1].Codec) }

// reason is what err says, as far as it is known not to quote the value.
func reason(err error) string {
	var own *Error
	if errors.As(err, &own) {
		return own.Reason
	}
	return fmt.Sprintf("it fails with a %T", err)
}

// WithID returns c under another CodecID: for gossip, where nodes find the codec of a value by its id, while the
// codec behind the id changes (see [Either]) or has an id that says something else, such as the name of a Go type. The
// bytes and the errors stay those of c. It fails if c is nil or the id is empty.
func WithID(c Codec, id string) (Codec, error) {
	switch {
	case c == nil:
		return nil, errors.New("codec: WithID needs a codec")
	case id == "":
		return nil, errors.New("codec: WithID: the id is empty")
	}
	return named{c, id}, nil
}

type named struct {
	Codec
	id string
}

func (n named) CodecID() string { return n.id }

func (n named) wrote(data []byte) (yes, known bool) { return wrote(n.Codec, data) }
func (n named) acceptsAnything() bool               { return acceptsAnything(n.Codec) }
