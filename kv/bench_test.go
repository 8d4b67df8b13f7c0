package kv_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

func benchClient(b *testing.B) kv.Client {
	b.Helper()
	c := kv.New(inmemory.NewStore().Open(), stringCodec, nil)
	b.Cleanup(func() { _ = c.Close() })
	b.ReportAllocs()
	return c
}

// toggle writes without the cost of parsing numbers.
func toggle(in any) (any, bool, error) {
	if in == "a" {
		return "b", false, nil
	}
	return "a", false, nil
}

func BenchmarkCASOneAfterAnother(b *testing.B) {
	c := benchClient(b)
	for b.Loop() {
		if err := c.CAS(b.Context(), "k", toggle); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCASHotKey(b *testing.B) {
	c := benchClient(b)
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := c.CAS(context.Background(), "k", toggle); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkGet(b *testing.B) {
	c := benchClient(b)
	if err := c.CAS(b.Context(), "k", toggle); err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Get(context.Background(), "k"); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkList2000(b *testing.B) {
	c := benchClient(b)
	for i := range 2000 {
		if err := c.CAS(b.Context(), fmt.Sprintf("bench/list/%07d", i), toggle); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if keys, err := c.List(b.Context(), "bench/list/"); err != nil || len(keys) != 2000 {
			b.Fatal(len(keys), err)
		}
	}
}

// What a store across a network adds to a call, without the network; nobody
// observes it.
func BenchmarkAcrossALine(b *testing.B) {
	for name, observer := range map[string]kv.Observer{"none": nil, "nop": kv.NopObserver{}} {
		c := kv.New(&hooked{Store: inmemory.NewStore().Open()}, stringCodec, &kv.Options{Observer: observer})
		b.Cleanup(func() { _ = c.Close() })
		b.Run("CAS/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.CAS(b.Context(), "k", toggle); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("CAS of 32/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := c.CAS(context.Background(), "hot", toggle); err != nil {
						b.Error(err)
					}
				}
			})
		})
		b.Run("Get/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Get(b.Context(), "k"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
