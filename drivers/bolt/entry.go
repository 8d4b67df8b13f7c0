package bolt

import (
	"context"
	"encoding/binary"

	"go.etcd.io/bbolt"

	"github.com/polykv/polykv/kv/driver"
)

// headerSize is that of what a stored entry has before its value: its version
// and the id of the write that made it.
const headerSize = 16

// encode returns what is stored of s at version v.
func encode(v driver.Version, s driver.Swap) []byte {
	stored := make([]byte, headerSize, headerSize+len(s.Value))
	binary.BigEndian.PutUint64(stored, uint64(v))
	binary.BigEndian.PutUint64(stored[8:], s.ID)
	return append(stored, s.Value...)
}

// decode returns the entry of key. Its value is a copy, since bbolt's memory
// is valid in a transaction only, and never nil.
func decode(key string, stored []byte) driver.Entry {
	return driver.Entry{
		Key:     key,
		Value:   append([]byte{}, stored[headerSize:]...),
		Version: version(stored),
		Meta:    binary.BigEndian.Uint64(stored[8:]),
	}
}

func version(stored []byte) driver.Version {
	return driver.Version(binary.BigEndian.Uint64(stored))
}

// read returns the entry of key, one at version 0 if key is absent.
func read(b *bbolt.Bucket, key string) driver.Entry {
	stored := b.Get([]byte(key))
	if stored == nil {
		return driver.Entry{Key: key}
	}
	return decode(key, stored)
}

// hold reports whether all of guards hold.
func hold(b *bbolt.Bucket, guards []driver.Guard) bool {
	for _, g := range guards {
		if read(b, g.Key).Version != g.Version {
			return false
		}
	}
	return true
}

// each calls f with the keys of r that are greater than after, in ascending
// order, and what is stored of them, until f returns false or ctx is done.
func each(ctx context.Context, tx *bbolt.Tx, r driver.Range, after string, f func(key string, stored []byte) bool) error {
	c := tx.Bucket(bucket).Cursor()
	n := 0
	for k, stored := c.Seek([]byte(max(r.Key, after))); k != nil && r.Contains(string(k)); k, stored = c.Next() {
		if n++; n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if string(k) > after && !f(string(k), stored) {
			return nil
		}
	}
	return nil
}
