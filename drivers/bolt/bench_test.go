package bolt

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// BenchmarkCAS compares calls of CAS with a transaction of bbolt itself, which
// is the least that one costs. Calls on one key share commits.
func BenchmarkCAS(b *testing.B) {
	for _, noSync := range []bool{false, true} {
		b.Run("nosync="+strconv.FormatBool(noSync), func(b *testing.B) {
			var files Files
			cfg := *NewConfig()
			cfg.Path, cfg.NoSync = filepath.Join(b.TempDir(), "data.db"), noSync
			store, err := files.Open(cfg)
			if err != nil {
				b.Fatal(err)
			}
			client := kv.New(store, codec.String{}, nil)
			defer func() {
				if err := client.Close(); err != nil {
					b.Error(err)
				}
			}()
			benchmarkCAS(b, store.(*handle).file.bolt, client)
		})
	}
}

func benchmarkCAS(b *testing.B, db *bbolt.DB, client kv.Client) {
	cas := func() error {
		return client.CAS(context.Background(), "k", func(any) (any, bool, error) { return "value", false, nil })
	}
	b.Run("bbolt", func(b *testing.B) {
		for b.Loop() {
			err := db.Update(func(tx *bbolt.Tx) error {
				k := []byte("other bucket")
				other, err := tx.CreateBucketIfNotExists(k)
				if err != nil {
					return err
				}
				return other.Put(k, k)
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			if err := cas(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("together", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := cas(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
