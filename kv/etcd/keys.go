package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	protobuf "google.golang.org/protobuf/proto"

	"github.com/polykv/polykv/kv/driver"
)

// keyList is the answer to a request for keys only, a RangeResponse of which
// no more is decoded than a listing needs. Making messages of its thousands of
// key-value pairs is most of what a listing costs this process otherwise.
type keyList struct {
	limit   int // of entries, as asked for
	header  pb.ResponseHeader
	entries []driver.Entry
	more    bool
}

// rangeKeyList is rangeKeys for a request with KeysOnly.
func (s *store) rangeKeyList(ctx context.Context, req *pb.RangeRequest) (*keyList, uint64, error) {
	m := s.history.mark()
	opts := append(s.opts[:len(s.opts):len(s.opts)], grpc.ForceCodecV2(keyListCodec{encoding.GetCodecV2(proto.Name)}))
	list, err := call(ctx, s.logins, req.Serializable, func(ctx context.Context) (*keyList, error) {
		list := &keyList{limit: int(req.Limit)}
		return list, s.conn.Invoke(ctx, pb.KV_Range_FullMethodName, req, list, opts...)
	})
	if err != nil {
		return nil, 0, s.wrap(ctx, err)
	}
	gen, err := s.history.observe(&list.header, m, !req.Serializable)
	for i := range list.entries {
		list.entries[i].Generation = gen
	}
	return list, gen, err
}

// keyListCodec is gRPC's own codec, which reads a keyList as well.
type keyListCodec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c keyListCodec) Unmarshal(data mem.BufferSlice, v any) error {
	list, ok := v.(*keyList)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	return list.unmarshal(buf.ReadOnlyData())
}

// field identifies a field of a message (etcd/api/etcdserverpb/rpc.proto and
// mvccpb/kv.proto). One of another kind than is expected counts as unknown.
type field struct {
	number protowire.Number
	kind   protowire.Type
}

// unmarshal reads a RangeResponse. It keeps nothing of data.
func (l *keyList) unmarshal(data []byte) error {
	return fields(data, func(f field, number uint64, bytes []byte) error {
		switch f {
		case field{1, protowire.BytesType}: // header
			return protobuf.UnmarshalOptions{Merge: true}.Unmarshal(bytes, &l.header)
		case field{2, protowire.BytesType}: // kvs
			if l.entries == nil { // the others will be about as long as the first
				l.entries = make([]driver.Entry, 0, min(l.limit, 1+len(data)/(2+len(bytes))))
			}
			return l.unmarshalKey(bytes)
		case field{3, protowire.VarintType}: // more
			l.more = number != 0
		}
		return nil
	})
}

// unmarshalKey reads a KeyValue.
func (l *keyList) unmarshalKey(data []byte) error {
	var e driver.Entry
	err := fields(data, func(f field, number uint64, bytes []byte) error {
		switch f {
		case field{1, protowire.BytesType}: // key
			e.Key = string(bytes)
		case field{3, protowire.VarintType}: // mod_revision
			e.Version = driver.Version(number)
		}
		return nil
	})
	l.entries = append(l.entries, e)
	return err
}

// fields calls f for each field of an encoded message, with its number if it
// is one, else with its bytes.
func fields(data []byte, f func(f field, number uint64, bytes []byte) error) error {
	for len(data) > 0 {
		n, kind, size := protowire.ConsumeTag(data)
		if size < 0 {
			return fmt.Errorf("the server's answer is garbled: %w", protowire.ParseError(size))
		}
		data = data[size:]
		var number uint64
		var bytes []byte
		switch kind {
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			bytes, size = protowire.ConsumeBytes(data)
		default:
			size = protowire.ConsumeFieldValue(n, kind, data)
		}
		if size < 0 {
			return fmt.Errorf("the server's answer is garbled: %w", protowire.ParseError(size))
		}
		if err := f(field{n, kind}, number, bytes); err != nil {
			return err
		}
		data = data[size:]
	}
	return nil
}
