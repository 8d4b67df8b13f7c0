package memberlist

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
)

// letters is a set whose encoding keeps the order of insertion, so that equal
// sets may have different bytes.
type letters struct{ all []byte }

func (l *letters) Merge(other Mergeable, _ bool) (Mergeable, error) {
	o, ok := other.(*letters)
	if !ok {
		return nil, errors.New("no letters")
	}
	change := &letters{}
	for _, b := range o.all {
		if !bytes.Contains(l.all, []byte{b}) {
			l.all, change.all = append(l.all, b), append(change.all, b)
		}
	}
	if len(change.all) == 0 {
		return nil, nil //nolint:nilnil // the law: nothing changed
	}
	return change, nil
}

func (l *letters) MergeContent() []string                   { return []string{string(l.all)} }
func (l *letters) RemoveTombstones(time.Time) (left, n int) { return 0, 0 }
func (l *letters) Clone() Mergeable                         { return &letters{slices.Clone(l.all)} }

type lettersCodec struct{}

func (lettersCodec) CodecID() string { return "letters" }

func (lettersCodec) Encode(value any) ([]byte, error) {
	l, ok := value.(*letters)
	if !ok {
		return nil, codec.ErrType
	}
	return slices.Clone(l.all), nil
}

func (lettersCodec) Decode(data []byte) (any, error) {
	if bytes.ContainsRune(data, '!') {
		return nil, errors.New("not letters")
	}
	return &letters{slices.Clone(data)}, nil
}

func TestEqual(t *testing.T) {
	for _, c := range []struct {
		codec codec.Codec
		a, b  string
		want  bool
	}{
		{lettersCodec{}, "abc", "cab", true},
		{lettersCodec{}, "abc", "ab", false},
		{lettersCodec{}, "ab", "abc", false},
		{lettersCodec{}, "", "a", false},
		{lettersCodec{}, "!", "!", true},
		{lettersCodec{}, "!", "a", false},
		{lettersCodec{}, "a", "!", false},
		{codec.String{}, "abc", "abc", true},
		{codec.String{}, "abc", "cab", false},
	} {
		if got := Equal(c.codec)([]byte(c.a), []byte(c.b)); got != c.want {
			t.Errorf("Equal(%s) of %q and %q = %v", c.codec.CodecID(), c.a, c.b, got)
		}
	}
}
