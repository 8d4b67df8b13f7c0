package etcd

import (
	"context"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

// Each benchmark measures the driver beside the etcd client doing the least
// it must for the same.

func benchBoth(b *testing.B, ours, raw func(b *testing.B, key string) error) {
	for i, name := range []string{"driver", "raw"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			if err := []func(*testing.B, string) error{ours, raw}[i](b, "bench/"+b.Name()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func rawClient(b *testing.B) *clientv3.Client {
	b.Helper()
	c, err := single.Get(b).EtcdClient()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}

func BenchmarkGet(b *testing.B) {
	s, _ := openShared(b)
	c, ctx := rawClient(b), context.Background()
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
				_, err = c.Get(ctx, "bench/get")
			}
			return err
		},
	)
}

func BenchmarkGetParallel(b *testing.B) {
	s, _ := openShared(b)
	c, ctx := rawClient(b), context.Background()
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
				_, err := c.Get(ctx, "bench/get")
				return err
			})
		},
	)
}

func BenchmarkSwap(b *testing.B) {
	s, _ := openShared(b)
	c, ctx := rawClient(b), context.Background()
	benchBoth(
		b,
		func(b *testing.B, key string) error {
			e := drivertest.Get(b, s, key)
			for b.Loop() {
				res, err := s.Swap(ctx, driver.Swap{Key: key, Prev: e, Value: []byte("value"), ID: 1})
				if err != nil || res.Outcome != driver.Applied {
					return fmt.Errorf("%v: %w", res.Outcome, err)
				}
				e = res.Entry
			}
			return nil
		},
		func(b *testing.B, key string) error {
			var rev int64
			for b.Loop() {
				resp, err := c.Txn(ctx).
					If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).
					Then(clientv3.OpPut(key, "value")).
					Else(clientv3.OpGet(key)).
					Commit()
				if err != nil {
					return err
				}
				if !resp.Succeeded {
					rev = resp.Responses[0].GetResponseRange().Kvs[0].ModRevision
					continue
				}
				rev = resp.Header.Revision
			}
			return nil
		},
	)
}
