package cortex

import (
	"fmt"
	"testing"
	"time"

	"github.com/cortexproject/cortex/pkg/ha"
	"github.com/cortexproject/cortex/pkg/ring"
	cortexcodec "github.com/cortexproject/cortex/pkg/ring/kv/codec"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCodecSharesBytesWithCortex(t *testing.T) {
	desc := ring.NewDesc()
	for i := range 20 {
		desc.AddIngester(fmt.Sprint("instance-", i), "127.0.0.1:1", "zone", []uint32{uint32(i)}, ring.ACTIVE, time.Unix(1, 0))
	}
	for name, c := range map[string]struct {
		codec cortexcodec.Codec
		value any
		equal func(read any) bool
	}{
		"ring":    {ring.GetCodec(), desc, func(read any) bool { return desc.Equal(read) }},
		"replica": {ha.GetReplicaDescCodec(), &ha.ReplicaDesc{Replica: "a", ReceivedAt: 1}, func(read any) bool { return (&ha.ReplicaDesc{Replica: "a", ReceivedAt: 1}).Equal(read) }},
		"string":  {cortexcodec.String{}, "text", func(read any) bool { return read == "text" }},
	} {
		t.Run(name, func(t *testing.T) {
			ours := NewCodec(c.codec)
			first, err := ours.Encode(c.value)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				theirs, err := c.codec.Encode(c.value)
				if err != nil {
					t.Fatal(err)
				}
				read, err := ours.Decode(theirs)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := ours.Encode(read); err != nil || string(again) != string(first) {
					t.Fatalf("equal values give other bytes: %v", err)
				}
			}
			if read, err := c.codec.Decode(first); err != nil || !c.equal(read) {
				t.Errorf("Cortex reads %v, %v", read, err)
			}
			if _, err := ours.Encode(3.14); err == nil {
				t.Error("a number was encoded")
			}
		})
	}
}

func TestLastUpdateTimeIsNow(t *testing.T) {
	c, err := NewClient(kv.New(inmemory.NewStore().Open(), NewCodec(ring.GetCodec()), nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before := time.Now()
	if got := c.LastUpdateTime("ring"); got.Before(before) || got.After(time.Now()) {
		t.Errorf("got %v at %v", got, before)
	}
}
