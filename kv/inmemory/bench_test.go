package inmemory

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/polykv/polykv/kv/driver"
)

func benchKey(i int) string { return fmt.Sprintf("bench/ring/%07d", i) }

// filled returns a store with n keys, and the keys.
func filled(tb testing.TB, n int) (*Store, []string) {
	tb.Helper()
	s := NewStore()
	h := s.Open()
	keys := make([]string, n)
	for i := range keys {
		keys[i] = benchKey(i)
		if _, err := h.Swap(ctx, driver.Swap{Key: keys[i], Value: []byte("value"), ID: 1}); err != nil {
			tb.Fatal(err)
		}
	}
	return s, keys
}

func sizes(b *testing.B, f func(b *testing.B, n int)) {
	for _, n := range []int{10, 1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) { f(b, n) })
	}
}

func BenchmarkGet(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		s, keys := filled(b, n)
		h := s.Open()
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			if e, _ := h.Get(ctx, driver.GetRequest{Key: keys[i%n]}); !e.Exists() {
				b.Fatal("absent")
			}
		}
	})
}

func BenchmarkGet64Goroutines(b *testing.B) {
	s, keys := filled(b, 1000)
	h := s.Open()
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			_, _ = h.Get(ctx, driver.GetRequest{Key: keys[i%len(keys)]})
		}
	})
}

func BenchmarkSwap(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		s, keys := filled(b, n)
		h := s.Open()
		prev := make([]driver.Entry, n)
		for i := range prev {
			prev[i], _ = h.Get(ctx, driver.GetRequest{Key: keys[i]})
		}
		v := []byte("value")
		b.ReportAllocs()
		b.ResetTimer()
		for i := 0; b.Loop(); i++ {
			j := i % n
			r, _ := h.Swap(ctx, driver.Swap{Key: keys[j], Value: v, Prev: prev[j], ID: 1})
			if r.Outcome != driver.Applied {
				b.Fatal(r.Outcome)
			}
			prev[j] = r.Entry
		}
	})
}

func BenchmarkSwapOneKey(b *testing.B) {
	s, _ := filled(b, 1)
	swapLoop(b, s.Open(), benchKey(0))
}

func BenchmarkSwap64Goroutines(b *testing.B) {
	s, keys := filled(b, 64)
	h := s.Open()
	var next atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		key := keys[int(next.Add(1))%len(keys)]
		for pb.Next() {
			prev, _ := h.Get(ctx, driver.GetRequest{Key: key})
			_, _ = h.Swap(ctx, driver.Swap{Key: key, Value: []byte("v"), Prev: prev, ID: 1})
		}
	})
}

func swapLoop(b *testing.B, h driver.Store, key string) {
	prev, _ := h.Get(ctx, driver.GetRequest{Key: key})
	v := []byte("value")
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		r, _ := h.Swap(ctx, driver.Swap{Key: key, Value: v, Prev: prev, ID: 1})
		if r.Outcome != driver.Applied {
			b.Fatal(r.Outcome)
		}
		prev = r.Entry
	}
}

// BenchmarkSwapAfterScan is the worst case: a snapshot before every write.
func BenchmarkSwapAfterScan(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		s, keys := filled(b, n)
		h := s.Open()
		prev, _ := h.Get(ctx, driver.GetRequest{Key: keys[n/2]})
		b.ReportAllocs()
		b.ResetTimer()
		for b.Loop() {
			_, _ = h.Scan(ctx, driver.ScanRequest{Prefix: keys[0]})
			r, _ := h.Swap(ctx, driver.Swap{Key: keys[n/2], Value: []byte("v"), Prev: prev, ID: 1})
			prev = r.Entry
		}
	})
}

func BenchmarkCreateAndRemove(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		s, keys := filled(b, n)
		h := s.Open()
		key := keys[n/2] + "/new"
		b.ReportAllocs()
		b.ResetTimer()
		for b.Loop() {
			r, _ := h.Swap(ctx, driver.Swap{Key: key, Value: []byte("v"), ID: 1})
			_, _ = h.Swap(ctx, driver.Swap{Key: key, Remove: true, Prev: r.Entry, ID: 1})
		}
	})
}

func BenchmarkScan100(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		s, keys := filled(b, n)
		h := s.Open()
		b.ReportAllocs()
		b.ResetTimer()
		for b.Loop() {
			_, _ = h.Scan(ctx, driver.ScanRequest{Prefix: "bench/", After: keys[n/2], Limit: 100})
		}
	})
}

func BenchmarkScan2000(b *testing.B) {
	s, _ := filled(b, 2000)
	h := s.Open()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = h.Scan(ctx, driver.ScanRequest{Prefix: "bench/", KeysOnly: true})
	}
}

// follow starts n watches of r whose emit is as costly as the engine's: a small
// mutex and a signal to a consumer. It returns how often a consumer was woken.
func follow(b *testing.B, h driver.Store, n int, r func(i int) driver.Range) *atomic.Int64 {
	ctx, cancel := context.WithCancel(ctx)
	var done, synced sync.WaitGroup
	var got atomic.Int64
	for i := range n {
		done.Add(2)
		synced.Add(1)
		wake := make(chan struct{}, 1)
		var mu sync.Mutex
		var last driver.Entry
		go func() {
			defer done.Done()
			_ = h.Watch(ctx, driver.WatchRequest{Range: r(i)}, func(e driver.Event) {
				if e.Type == driver.Synced {
					synced.Done()
					got.Store(0)
					return
				}
				mu.Lock()
				last = e.Entry
				mu.Unlock()
				select {
				case wake <- struct{}{}:
				default:
				}
			})
		}()
		go func() {
			defer done.Done()
			for {
				select {
				case <-wake:
					mu.Lock()
					_ = last
					mu.Unlock()
					got.Add(1)
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	synced.Wait()
	got.Store(0)
	b.Cleanup(func() { cancel(); done.Wait() })
	return &got
}

// BenchmarkFanOut is one change and its delivery to all watches of the key.
func BenchmarkFanOut(b *testing.B) {
	for _, kind := range []string{"key", "prefix"} {
		for _, n := range []int{1, 100, 10_000} {
			b.Run(fmt.Sprintf("%s/watches=%d", kind, n), func(b *testing.B) {
				s, keys := filled(b, 1000)
				h := s.Open()
				got := follow(b, h, n, func(int) driver.Range {
					if kind == "key" {
						return driver.Range{Key: keys[0]}
					}
					return driver.Range{Key: "bench/", IsPrefix: true}
				})
				prev, _ := h.Get(ctx, driver.GetRequest{Key: keys[0]})
				b.ReportAllocs()
				b.ResetTimer()
				var i int64
				for b.Loop() {
					r, _ := h.Swap(ctx, driver.Swap{Key: keys[0], Value: []byte("v"), Prev: prev, ID: 1})
					prev = r.Entry
					i++
					for got.Load() < i*int64(n) {
						runtime.Gosched()
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/watch")
			})
		}
	}
}

// BenchmarkSwapBesideWatches shows what watches of other keys cost a write, and
// BenchmarkSwapWatched what its own do when nobody waits for them.
func BenchmarkSwapBesideWatches(b *testing.B) {
	for _, kind := range []string{"key", "prefix"} {
		for _, n := range []int{0, 1, 100, 10_000} {
			b.Run(fmt.Sprintf("%s/watches=%d", kind, n), func(b *testing.B) {
				s, keys := filled(b, 10_001)
				h := s.Open()
				follow(b, h, n, func(i int) driver.Range {
					return driver.Range{Key: keys[i], IsPrefix: kind == "prefix"}
				})
				swapLoop(b, h, keys[10_000])
			})
		}
	}
}

func BenchmarkSwapWatched(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("watches=%d", n), func(b *testing.B) {
			s, keys := filled(b, 1000)
			h := s.Open()
			follow(b, h, n, func(int) driver.Range { return driver.Range{Key: keys[0]} })
			swapLoop(b, h, keys[0])
		})
	}
}

// BenchmarkPrefixWatch is one change of a watched prefix as the prefix grows.
func BenchmarkPrefixWatch(b *testing.B) {
	sizes(b, func(b *testing.B, n int) {
		s, keys := filled(b, n)
		h := s.Open()
		follow(b, h, 1, func(int) driver.Range { return driver.Range{Key: "bench/", IsPrefix: true} })
		put(b, h, keys[n/2], "v") // the first after the watch's snapshot copies a path
		swapLoop(b, h, keys[n/2])
	})
}

// BenchmarkMemory reports what keys and idle watches take, goroutines included.
func BenchmarkMemory(b *testing.B) {
	inUse := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse)
	}
	const n = 100_000
	for b.Loop() {
		before := inUse()
		s, keys := filled(b, n)
		b.ReportMetric((inUse()-before)/n, "bytes/key")

		ctx, cancel := context.WithCancel(ctx)
		h := s.Open()
		var synced, ended sync.WaitGroup
		before = inUse()
		for _, key := range keys[:n/10] {
			synced.Add(1)
			ended.Go(func() {
				_ = h.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: key}}, func(driver.Event) { synced.Done() })
			})
			synced.Add(1) // the entry, and Synced
		}
		synced.Wait()
		b.ReportMetric((inUse()-before)/(n/10), "bytes/watch")
		cancel()
		ended.Wait()
	}
}
