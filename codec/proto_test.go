package codec_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polykv/polykv/codec"
)

func TestProtoIsDeterministic(t *testing.T) {
	fields := map[string]any{}
	for _, r := range "abcdefghijklmnopqrstuvwxyz" {
		fields[string(r)] = float64(r)
	}
	s, err := structpb.NewStruct(fields)
	if err != nil {
		t.Fatal(err)
	}
	want := mustEncode(t, codec.Proto[*structpb.Struct]{}, s)
	for range 20 { // a random order of 26 keys would differ
		if got := mustEncode(t, codec.Proto[*structpb.Struct]{}, proto.Clone(s)); !bytes.Equal(got, want) {
			t.Fatal("equal messages gave different bytes")
		}
	}
}

func TestProtoKeepsUnknownFields(t *testing.T) {
	data := mustEncode(t, codec.Proto[*durationpb.Duration]{}, durationpb.New(5e9))
	data = protowire.AppendTag(data, 77, protowire.BytesType)
	data = protowire.AppendString(data, "from a newer schema")
	value := mustDecode(t, codec.Proto[*durationpb.Duration]{}, data)
	if got := mustEncode(t, codec.Proto[*durationpb.Duration]{}, value); !bytes.Equal(got, data) {
		t.Errorf("got %q, want %q", got, data)
	}
}

func TestProtoErrors(t *testing.T) {
	secret := "hunter2\xff"
	invalid := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), secret)
	for _, test := range []struct {
		name  string
		codec codec.Codec
		data  []byte
	}{
		{"cut off", codec.Proto[*wrapperspb.BytesValue]{}, invalid[:4]},
		{"trailing garbage", codec.Proto[*wrapperspb.BytesValue]{}, append(bytes.Clone(invalid), 0xff)},
		{"invalid UTF-8", codec.Proto[*wrapperspb.StringValue]{}, invalid},
		{"missing required field", codec.Proto[*descriptorpb.UninterpretedOption_NamePart]{}, nil},
		{"huge length", codec.Proto[*wrapperspb.BytesValue]{}, []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}},
		{"deep", codec.Proto[*structpb.Value]{}, deepStruct(6000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			value, err := test.codec.Decode(test.data)
			var e *codec.Error
			if !errors.As(err, &e) || e.Op != "decode" || !errors.Is(err, proto.Error) {
				t.Fatalf("got %v, %#v", value, err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error quotes the value: %v", err)
			}
		})
	}
	_, err := codec.Proto[*wrapperspb.StringValue]{}.Encode(wrapperspb.String(secret))
	if !errors.Is(err, proto.Error) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
	_, err = codec.Proto[*descriptorpb.UninterpretedOption_NamePart]{}.Encode(&descriptorpb.UninterpretedOption_NamePart{})
	if !errors.Is(err, proto.Error) {
		t.Errorf("got %v", err)
	}
}

// deepStruct is the wire form of a list in a list in a list.
func deepStruct(depth int) []byte {
	const listValue, values = 6, 1 // field numbers
	var data []byte
	for range depth {
		data = protowire.AppendBytes(protowire.AppendTag(nil, values, protowire.BytesType), data)
		data = protowire.AppendBytes(protowire.AppendTag(nil, listValue, protowire.BytesType), data)
	}
	return data
}

func TestProtoNeedsAGeneratedType(t *testing.T) {
	d := durationpb.New(1)
	for _, test := range []struct {
		codec codec.Codec
		value any
		id    string
	}{
		{codec.Proto[proto.Message]{}, d, "proto/protoreflect.ProtoMessage"},
		{codec.Proto[*dynamicpb.Message]{}, dynamicpb.NewMessage(d.ProtoReflect().Descriptor()), "proto/*dynamicpb.Message"},
	} {
		if got := test.codec.CodecID(); got != test.id {
			t.Errorf("CodecID %q, want %q", got, test.id)
		}
		if _, err := test.codec.Encode(test.value); !errors.Is(err, codec.ErrType) ||
			!strings.Contains(err.Error(), "not the pointer type of a generated message") {
			t.Errorf("Encode: %v", err)
		}
		if _, err := test.codec.Decode(nil); err == nil || !strings.Contains(err.Error(), "not the pointer type of a generated message") {
			t.Errorf("Decode: %v", err)
		}
	}
}
