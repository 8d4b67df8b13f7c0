package conformance

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/polykv/polykv/codec"
)

// doc is a value with memory that can be shared by mistake.
type doc struct {
	Text string
	Tags []string
}

// docs is a codec of *doc.
func docs() codec.Codec { return codec.JSON[*doc]{ID: "conformance/doc"} }

// compressedDocs is docs with what it encodes compressed.
func compressedDocs() (codec.Codec, error) { return codec.Compress(docs(), codec.Zstd, nil) }

// Codecs returns the codecs that the cases open clients with, one for each id.
// It is for stores whose nodes have to know every codec from the start.
func Codecs() ([]codec.Codec, error) {
	compressed, err := compressedDocs()
	if err != nil {
		return nil, err
	}
	return []codec.Codec{codec.String{}, codec.Bytes{}, docs(), compressed}, nil
}

// spoil changes everything that a *doc refers to.
func spoil(value any) {
	if d, ok := value.(*doc); ok && d != nil {
		d.Text = "spoiled"
		for i := range d.Tags {
			d.Tags[i] = "spoiled"
		}
	}
}

// errPicky is the cause of every error of a picky codec.
var errPicky = errors.New("this value is refused")

// picky is a codec of strings that refuses to encode what begins with "!", to
// decode what begins with "?", and decodes what begins with "~" to nil.
type picky struct{ codec.String }

func (p picky) Encode(value any) ([]byte, error) {
	if s, ok := value.(string); ok && len(s) > 0 && s[0] == '!' {
		return nil, errPicky
	}
	return p.String.Encode(value)
}

func (p picky) Decode(data []byte) (any, error) {
	switch {
	case len(data) > 0 && data[0] == '?':
		return nil, errPicky
	case len(data) > 0 && data[0] == '~':
		return nil, nil
	}
	return p.String.Decode(data)
}

// number returns the number that a value stands for; an absent one is 0.
func number(value any) int {
	s, ok := value.(string)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1 << 40 // no counter gets there
	}
	return n
}

// increment is a CAS callback that counts.
func increment(in any) (out any, retry bool, err error) {
	return strconv.Itoa(number(in) + 1), false, nil
}

// show prints a value for a message, shortened.
func show(value any) string {
	var s string
	switch v := value.(type) {
	case nil:
		return "nil"
	case string:
		s = strconv.Quote(v)
	case error:
		s = strconv.Quote(v.Error())
	case *doc:
		s = fmt.Sprintf("%+v", *v)
	default:
		s = fmt.Sprintf("%v", v)
	}
	if len(s) > 200 {
		s = fmt.Sprintf("%s... (%d bytes)", s[:200], len(s))
	}
	return s
}
