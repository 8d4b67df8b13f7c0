package hostkv

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/polykv/polykv/codec"
)

// Described is a message as gogo/protobuf generates it, which encodes itself and has the
// compressed description of its file, and where in it the message is.
type Described interface {
	Descriptor() (file []byte, path []int)
	Marshal() ([]byte, error)
}

// Stable returns what a [Codec] wants as Marshal, of a host's codec that packs
// messages of gogo/protobuf as pack does: their maps are brought into order. What
// isn't [Described] is left to the codec.
func Stable(c codec.Codec, pack func([]byte) []byte) func(value any) ([]byte, error) {
	empty, err := c.Decode(pack(nil))
	if err != nil {
		return c.Encode // it has required fields, and says so when it is used
	}
	described, ok := empty.(Described)
	if !ok {
		return c.Encode
	}
	canonical, err := Canonical(described)
	return func(value any) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		m, ok := value.(Described)
		if !ok {
			return nil, fmt.Errorf("the value is a %T, which is no message of protocol buffers", value)
		}
		data, err := m.Marshal()
		if err == nil {
			data, err = canonical(data)
		}
		if err != nil {
			return nil, err
		}
		return pack(data), nil
	}
}

// Canonical returns a function that brings an encoded message of m's type into
// the one form that all equal messages have: the entries of maps in order.
// gogo/protobuf writes them in a random one, and can't do otherwise. The
// function works in place and returns its argument.
func Canonical(m Described) (func(data []byte) ([]byte, error), error) {
	descriptor, err := describe(m)
	if err != nil {
		return nil, fmt.Errorf("the description of %T: %w", m, err)
	}
	shape := shapes{}.of(descriptor)
	return func(data []byte) ([]byte, error) {
		if shape == nil {
			return data, nil
		}
		return data, shape.sort(data)
	}, nil
}

// describe finds the message in its file.
func describe(m Described) (protoreflect.MessageDescriptor, error) {
	packed, path := m.Descriptor()
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(unpacked)
	if err != nil {
		return nil, err
	}
	var file descriptorpb.FileDescriptorProto
	if err := proto.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	described, err := protodesc.FileOptions{AllowUnresolvable: true}.New(&file, nil)
	if err != nil {
		return nil, err
	}
	messages := described.Messages()
	var found protoreflect.MessageDescriptor
	for _, i := range path {
		if i >= messages.Len() {
			return nil, errors.New("the message isn't in it")
		}
		found = messages.Get(i)
		messages = found.Messages()
	}
	if found == nil {
		return nil, errors.New("the message isn't in it")
	}
	return found, nil
}

// shape says where the maps are in a message; nil: there are none.
type shape struct {
	maps   map[protowire.Number]*shape // of their entries; nil: no map in the entry
	nested map[protowire.Number]*shape
}

// shapes holds those that were made, by the message's name: messages may hold
// each other.
type shapes map[protoreflect.FullName]*shape

func (all shapes) of(m protoreflect.MessageDescriptor) *shape {
	if s, ok := all[m.FullName()]; ok {
		return s
	}
	s := &shape{maps: map[protowire.Number]*shape{}, nested: map[protowire.Number]*shape{}}
	all[m.FullName()] = s
	for i := range m.Fields().Len() {
		switch f := m.Fields().Get(i); {
		case f.IsMap():
			s.maps[f.Number()] = all.of(f.Message())
		case f.Kind() == protoreflect.MessageKind:
			if inner := all.of(f.Message()); inner != nil {
				s.nested[f.Number()] = inner
			}
		}
	}
	if len(s.maps)+len(s.nested) == 0 {
		all[m.FullName()] = nil
	}
	return all[m.FullName()]
}

// sort brings the entries of the maps in data into order. What isn't a
// complete message is an error.
func (s *shape) sort(data []byte) error {
	var entries [][]byte // of the map that is being read, with their tags
	var reading protowire.Number
	start := 0
	flush := func(end int) {
		if len(entries) > 1 {
			slices.SortFunc(entries, bytes.Compare)
			copy(data[start:end], bytes.Join(entries, nil))
		}
		entries = entries[:0]
	}
	for at := 0; at < len(data); {
		number, kind, tagged := protowire.ConsumeTag(data[at:])
		if tagged < 0 {
			return protowire.ParseError(tagged)
		}
		length := protowire.ConsumeFieldValue(number, kind, data[at+tagged:])
		if length < 0 {
			return protowire.ParseError(length)
		}
		field := data[at : at+tagged+length]
		inner, isMap := s.maps[number]
		if isMap != (reading != 0) || number != reading {
			flush(at)
			start, reading = at, 0
			if isMap {
				reading = number
			}
		}
		if !isMap {
			inner = s.nested[number]
		}
		if inner != nil && kind == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(field[tagged:])
			if err := inner.sort(content); err != nil {
				return err
			}
		}
		if isMap {
			entries = append(entries, field)
		}
		at += len(field)
	}
	flush(len(data))
	return nil
}
