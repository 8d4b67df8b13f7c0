package consul

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

// Each benchmark measures the driver beside Consul's own client doing the
// least it must for the same.

func benchBoth(b *testing.B, ours, raw func(b *testing.B, key string) error) {
	for i, name := range []string{"driver", "raw"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			if err := []func(*testing.B, string) error{ours, raw}[i](b, drivertest.Unique(b)); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s, _ := openShared(b)
	kv, ctx := rawClient(b, single.Get(b)).KV(), context.Background()
	drivertest.Put(b, s, "bench/get", "value")
	benchBoth(
		b,
		func(b *testing.B, _ string) (err error) {
			for b.Loop() {
				_, err = s.Get(ctx, driver.GetRequest{Key: "bench/get"})
			}
			return err
		},
		func(b *testing.B, _ string) (err error) {
			for b.Loop() {
				_, _, err = kv.Get("bench/get", &api.QueryOptions{RequireConsistent: true})
			}
			return err
		},
	)
}

func BenchmarkGetParallel(b *testing.B) {
	s, _ := openShared(b)
	kv, ctx := rawClient(b, single.Get(b)).KV(), context.Background()
	drivertest.Put(b, s, "bench/get", "value")
	parallel := func(b *testing.B, get func() error) error {
		drivertest.AtOnce(b, get)
		return nil
	}
	benchBoth(
		b,
		func(b *testing.B, _ string) error {
			return parallel(b, func() error {
				_, err := s.Get(ctx, driver.GetRequest{Key: "bench/get"})
				return err
			})
		},
		func(b *testing.B, _ string) error {
			return parallel(b, func() error {
				_, _, err := kv.Get("bench/get", &api.QueryOptions{RequireConsistent: true})
				return err
			})
		},
	)
}

func BenchmarkSwap(b *testing.B) {
	s, _ := openShared(b)
	kv, ctx := rawClient(b, single.Get(b)).KV(), context.Background()
	benchBoth(
		b,
		func(b *testing.B, key string) error {
			var e driver.Entry
			for i := uint64(1); b.Loop(); i++ {
				res, err := s.Swap(ctx, driver.Swap{Key: key, Prev: e, Value: []byte("value"), ID: i})
				if err != nil || res.Outcome != driver.Applied {
					return fmt.Errorf("%v: %w", res.Outcome, err)
				}
				e = res.Entry
			}
			return nil
		},
		func(b *testing.B, key string) error {
			pair := &api.KVPair{Key: key}
			for i := 0; b.Loop(); i++ {
				pair.Value = strconv.AppendInt(nil, int64(i), 10)
				ok, _, err := kv.CAS(pair, nil)
				if err != nil || !ok {
					return fmt.Errorf("lost: %w", err)
				}
				// It has to be read for its new index.
				if pair, _, err = kv.Get(key, &api.QueryOptions{RequireConsistent: true}); err != nil {
					return err
				}
			}
			return nil
		},
	)
}

func BenchmarkScanOfThousand(b *testing.B) {
	s, p := openShared(b)
	kv, ctx := rawClient(b, single.Get(b)).KV(), context.Background()
	fill(b, s, p, 1000, 100)
	benchBoth(
		b,
		func(b *testing.B, _ string) (err error) {
			for b.Loop() {
				_, err = s.Scan(ctx, driver.ScanRequest{Prefix: p})
			}
			return err
		},
		func(b *testing.B, _ string) (err error) {
			for b.Loop() {
				_, _, err = kv.List(p, &api.QueryOptions{RequireConsistent: true})
			}
			return err
		},
	)
}

// BenchmarkSwapToWatch measures how long after a swap returned a watch of the
// key had it.
func BenchmarkSwapToWatch(b *testing.B) {
	s, p := openShared(b)
	key := p + "k"
	arrived := make(chan time.Time, 100)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() {
		done <- s.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: key}}, func(driver.Event) { arrived <- time.Now() })
	}()
	<-arrived
	e := drivertest.Get(b, s, key)
	var delay time.Duration
	for i := uint64(1); b.Loop(); i++ {
		e = drivertest.Swap(b, s, driver.Swap{Key: key, Prev: e, Value: []byte("v"), ID: i}, driver.Applied).Entry
		written := time.Now()
		delay += (<-arrived).Sub(written)
	}
	b.ReportMetric(float64(delay.Microseconds())/float64(b.N), "µs-after/op")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		b.Fatal(err)
	}
}
