package contestant

import (
	"bytes"
	"context"
	"encoding/binary"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/polykv/polykv/bench/workload"
)

// rawBolt is bbolt. A value has the number of its write before it.
type rawBolt struct{ *bbolt.DB }

var rawBucket = []byte("raw")

func openRawBolt(t workload.Target) (rawClient, error) {
	db, err := bbolt.Open(filepath.Join(t.Endpoints[0], "raw.db"), 0o600, nil)
	if err != nil {
		return nil, err
	}
	return rawBolt{db}, db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(rawBucket)
		return err
	})
}

// List implements workload.Client.
func (c rawBolt) List(_ context.Context, prefix string) (keys []string, err error) {
	err = c.View(func(tx *bbolt.Tx) error {
		at := tx.Bucket(rawBucket).Cursor()
		for k, _ := at.Seek([]byte(prefix)); bytes.HasPrefix(k, []byte(prefix)); k, _ = at.Next() {
			keys = append(keys, string(k))
		}
		return nil
	})
	return keys, err
}

func (c rawBolt) read(_ context.Context, key string) (now state, err error) {
	err = c.View(func(tx *bbolt.Tx) error {
		now = boltState(tx.Bucket(rawBucket).Get([]byte(key)))
		return nil
	})
	return now, err
}

func boltState(stored []byte) state {
	if stored == nil {
		return state{}
	}
	return state{string(stored[8:]), binary.BigEndian.Uint64(stored)}
}

func (c rawBolt) swap(_ context.Context, key, value string, version uint64) (now state, ok bool, err error) {
	err = c.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(rawBucket)
		if now = boltState(b.Get([]byte(key))); now.version != version {
			return nil
		}
		n, err := b.NextSequence()
		now, ok = state{value, n}, true
		if err != nil {
			return err
		}
		return b.Put([]byte(key), append(binary.BigEndian.AppendUint64(nil, n), value...))
	})
	return now, ok, err
}

// watch has nothing to tell: bbolt has no watches.
func (c rawBolt) watch(context.Context, string, bool, func(string, any) bool) {}
