package conformance

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// RunBenchmarks measures what a store is used for, alike for every driver:
// reads, writes one after another and by 64 callers with and without
// contention, listings of 2,000 keys, and the time from a write to the callback
// of a watch. Each runs on a store of its own, made by h.New.
func RunBenchmarks(b *testing.B, h Harness) {
	for _, m := range measurements() {
		b.Run(m.name, func(b *testing.B) {
			s := h.New(b)
			m.run(&benchmark{B: b, store: s})
		})
	}
}

type measurement struct {
	name string
	run  func(*benchmark)
}

func measurements() []measurement {
	return []measurement{
		{"Get", benchmarkGet},
		{"Get/64callers", benchmarkGetByMany},
		{"CAS/oneByOne", benchmarkCAS},
		{"CAS/64callers/1key", func(b *benchmark) { b.contend(1, 1) }},
		{"CAS/64callers/1key/8clients", func(b *benchmark) { b.contend(8, 1) }},
		{"CAS/64callers/64keys", func(b *benchmark) { b.contend(1, 64) }},
		{"List/2000keys", benchmarkList},
		{"Entries/2000keys", benchmarkEntries},
		{"WatchKey", benchmarkWatch},
	}
}

// benchmark is one measurement on one store.
type benchmark struct {
	*testing.B
	store Store
}

const benchCallers = 64

func (b *benchmark) open() kv.Client {
	b.Helper()
	c, err := b.store.Open(codec.String{}, kv.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := c.Close(); err != nil {
			b.Error(err)
		}
	})
	return c
}

func (b *benchmark) put(c kv.Client, key, value string) {
	b.Helper()
	if err := tryPut(context.Background(), c, key, value); err != nil {
		b.Fatal(err)
	}
}

// shared has so many callers do b.N calls together.
func (b *benchmark) shared(call func(caller int) error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	b.ResetTimer()
	for caller := range benchCallers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := call(caller); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	if err := failed.Load(); err != nil {
		b.Fatal(*err)
	}
}

func benchmarkGet(b *benchmark) {
	c := b.open()
	b.put(c, "k", "value")
	for b.Loop() {
		if _, err := c.Get(context.Background(), "k"); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkGetByMany(b *benchmark) {
	c := b.open()
	b.put(c, "k", "value")
	b.shared(func(int) error {
		_, err := c.Get(context.Background(), "k")
		return err
	})
}

func benchmarkCAS(b *benchmark) {
	c := b.open()
	for b.Loop() {
		if err := c.CAS(context.Background(), "k", increment); err != nil {
			b.Fatal(err)
		}
	}
}

func (b *benchmark) contend(clients, keys int) {
	b.Helper()
	open := make([]kv.Client, clients)
	for i := range open {
		open[i] = b.open()
	}
	names := make([]string, keys)
	for i := range names {
		names[i] = "k" + strconv.Itoa(i)
	}
	b.shared(func(caller int) error {
		return open[caller%clients].CAS(context.Background(), names[caller%keys], increment)
	})
}

// fill writes 2,000 keys below "p/".
func (b *benchmark) fill(c kv.Client) {
	b.Helper()
	var all sync.WaitGroup
	for w := range 20 {
		all.Go(func() {
			for i := w; i < 2000; i += 20 {
				if err := tryPut(context.Background(), c, fmt.Sprintf("p/%04d", i), "value"); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func benchmarkList(b *benchmark) {
	c := b.open()
	b.fill(c)
	for b.Loop() {
		if keys, err := c.List(context.Background(), "p/"); err != nil || len(keys) != 2000 {
			b.Fatal(len(keys), err)
		}
	}
}

func benchmarkEntries(b *benchmark) {
	c := b.open()
	b.fill(c)
	for b.Loop() {
		n := 0
		for _, err := range kv.Entries(context.Background(), c, "p/") {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 2000 {
			b.Fatal(n)
		}
	}
}

// benchmarkWatch measures the time from the call of a CAS to that of the
// callback of another client's watch.
func benchmarkWatch(b *benchmark) {
	writer, reader := b.open(), b.open()
	b.put(writer, "k", "0")
	ctx, cancel := context.WithCancel(context.Background())
	seen := make(chan int, 1)
	var watch sync.WaitGroup
	watch.Go(func() {
		reader.WatchKey(ctx, "k", func(value any) bool {
			select {
			case seen <- number(value):
				return true
			case <-ctx.Done():
				return false
			}
		})
	})
	b.Cleanup(func() {
		cancel()
		watch.Wait()
	})
	<-seen
	n := 0
	for b.Loop() {
		n++
		b.put(writer, "k", strconv.Itoa(n))
		state := <-seen
		for state != n { // an earlier one
			state = <-seen
		}
	}
}
