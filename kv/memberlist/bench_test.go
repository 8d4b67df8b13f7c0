package memberlist

import (
	"fmt"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// instance is an entry as a hash ring has it.
type instance struct {
	Addr      string
	Zone      string
	Timestamp int64
	Tokens    []uint32
}

var instances = MapCodec[string, instance]{ID: "instances"}

func instanceKey(i int) string { return fmt.Sprintf("ingester-%04d", i) }

func someInstance(i int) instance {
	return instance{Addr: fmt.Sprintf("10.0.%d.%d:9095", i>>8, i&255), Zone: "a", Timestamp: int64(i), Tokens: []uint32{1, 2, 3}}
}

// benchNode is a node with a Map of n entries under "ring", and a client.
func benchNode(b *testing.B, n int) (*loopback, kv.Client) {
	b.Helper()
	l := newLoopback(b, time.Now, instances, codec.String{})
	c, err := l.clients.new(instances, kv.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(l.clients.close)
	err = c.CAS(b.Context(), "ring", func(any) (any, bool, error) {
		m := NewMap[string, instance]()
		for i := range n {
			m.Set(instanceKey(i), someInstance(i))
		}
		return m, false, nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return l, c
}

func heartbeat(b *testing.B, c kv.Client, i, n int) {
	err := c.CAS(b.Context(), "ring", func(in any) (any, bool, error) {
		m, _ := in.(*Map[string, instance])
		m.Set(instanceKey(i%n), someInstance(i))
		return m, false, nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func sizes(b *testing.B, f func(b *testing.B, n int)) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) { f(b, n) })
	}
}

// BenchmarkGet reads a Map that doesn't change.
func BenchmarkGet(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		_, c := benchNode(b, n)
		b.ReportAllocs()
		for b.Loop() {
			if v, err := c.Get(b.Context(), "ring"); v == nil || err != nil {
				b.Fatal(v, err)
			}
		}
	})
}

// BenchmarkCAS changes one entry of a Map.
func BenchmarkCAS(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		l, c := benchNode(b, n)
		l.store.OnLocal(func(state.Update) {})
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			heartbeat(b, c, i, n)
		}
	})
}

// BenchmarkApply takes in the change of one entry of a Map.
func BenchmarkApply(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		from, c := benchNode(b, n)
		to := newLoopback(b, time.Now, instances, codec.String{})
		whole, _ := from.store.Read(instances.ID, state.KeyDigest{Key: "ring"})
		to.store.Apply(whole, nil)
		var sent []state.Update
		from.store.OnLocal(func(u state.Update) { sent = append(sent, u) })
		next := func(i int) state.Update {
			if len(sent) == 0 {
				b.StopTimer()
				for k := range 1000 {
					heartbeat(b, c, i+k, n)
				}
				b.StartTimer()
			}
			u := sent[0]
			sent = sent[1:]
			return u
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if a := to.store.Apply(next(i), nil); a.Outcome != state.Changed {
				b.Fatal(a.Outcome, a.Err)
			}
		}
	})
}

// BenchmarkWhole encodes and decodes a whole Map, as for a node that joins.
func BenchmarkWhole(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		l, _ := benchNode(b, n)
		m, _ := l.store.Get("ring").Mergeable().(*Map[string, instance])
		encoded, err := instances.Encode(m)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("encode", func(b *testing.B) {
			b.SetBytes(int64(len(encoded)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := instances.Encode(m); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("decode", func(b *testing.B) {
			b.SetBytes(int64(len(encoded)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := instances.Decode(encoded); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}

// BenchmarkKeys is a node with many keys of 1 KiB: what a change of one costs,
// and the digests, which every probe asks for.
func BenchmarkKeys(b *testing.B) {
	const n = 50_000
	l := newLoopback(b, time.Now, codec.String{})
	c, err := l.clients.new(codec.String{}, kv.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(l.clients.close)
	value := string(make([]byte, 1024))
	for i := range n {
		if err := put(b.Context(), c, fmt.Sprintf("some/key/%05d", i), value); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("CAS", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := put(b.Context(), c, fmt.Sprintf("some/key/%05d", i%n), value); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Roots", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.store.Roots()
		}
	})
	b.Run("Expire", func(b *testing.B) {
		for b.Loop() {
			l.store.Expire()
		}
	})
	b.Run("List", func(b *testing.B) {
		for b.Loop() {
			if keys, err := c.List(b.Context(), ""); len(keys) != n || err != nil {
				b.Fatal(len(keys), err)
			}
		}
	})
}
