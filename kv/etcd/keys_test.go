package etcd

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	protobuf "google.golang.org/protobuf/proto"
)

// FuzzKeyList: an answer is read as the generated code reads it.
func FuzzKeyList(f *testing.F) {
	full := &pb.RangeResponse{
		Header: &pb.ResponseHeader{ClusterId: 1, MemberId: 2, Revision: 300, RaftTerm: 4}, More: true, Count: 7,
		Kvs: []*mvccpb.KeyValue{
			{Key: []byte("a"), ModRevision: 1 << 40, CreateRevision: 2, Version: 3, Lease: 4},
			{Key: []byte("ключ"), Value: []byte("value"), ModRevision: 1},
			{},
		},
	}
	for _, resp := range []*pb.RangeResponse{full, {}, {More: true}, {Kvs: full.Kvs}} {
		data, err := protobuf.Marshal(resp)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{0x12, 0xff})
	f.Add([]byte("\x12\x02\x0a\x09"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var want pb.RangeResponse
		wantErr := protobuf.Unmarshal(data, &want)
		var got keyList
		if err := got.unmarshal(data); err != nil {
			if wantErr == nil {
				t.Fatalf("an answer is refused that is none: %v", err)
			}
			return
		}
		if wantErr != nil {
			return // what the generated code looks at closer, a listing does without
		}
		if got.more != want.More || got.header.GetRevision() != want.GetHeader().GetRevision() || len(got.entries) != len(want.Kvs) {
			t.Fatalf("%v, %v, %d keys; want %v", got.more, got.header.GetRevision(), len(got.entries), &want)
		}
		for i, kv := range want.Kvs {
			if e := got.entries[i]; e.Key != string(kv.Key) || int64(e.Version) != kv.ModRevision {
				t.Fatalf("entry %d is %v, want %v", i, e, kv)
			}
		}
	})
}

// TestKeyListKeepsNothing: the buffer of an answer is used again.
func TestKeyListKeepsNothing(t *testing.T) {
	resp := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 5}}
	for i := range 100 {
		resp.Kvs = append(resp.Kvs, &mvccpb.KeyValue{Key: fmt.Appendf(nil, "key-%02d", i), ModRevision: int64(i + 1)})
	}
	data, err := protobuf.Marshal(resp)
	if err != nil {
		t.Fatal(err)
	}
	var list keyList
	if err := list.unmarshal(data); err != nil {
		t.Fatal(err)
	}
	clear(data)
	for i, e := range list.entries {
		if want := fmt.Sprintf("key-%02d", i); e.Key != want || list.header.GetRevision() != 5 {
			t.Fatalf("entry %d is %q after the buffer was used again, want %q", i, e.Key, want)
		}
	}
}
