package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/polykv/polykv/kv/driver"
)

var _ driver.Leaser = (*handle)(nil)

// The file remembers leases, by id with their TTL, and what is attached to them,
// by key. A renewal is remembered in memory only: a file that is opened gives
// every lease its whole TTL again.
var (
	leaseBucket    = []byte("polykv.leases")
	attachedBucket = []byte("polykv.attached")
)

const (
	minLease = 500 * time.Millisecond
	// overdue is how long the runtime and the disk may take to end a lease.
	overdue = 2 * time.Second
)

// MinLease implements driver.Leaser.
func (h *handle) MinLease() time.Duration { return minLease }

// Grant implements driver.Leaser. Leases are the file's, not the handle's.
func (h *handle) Grant(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
	ttl = max(ttl, minLease)
	_, id, err := write(ctx, h, func() (driver.LeaseID, error) { return h.file.grant(ttl) })
	return driver.Grant{ID: id, TTL: ttl, Bound: ttl + overdue}, err
}

// Renew implements driver.Leaser.
func (h *handle) Renew(ctx context.Context, id driver.LeaseID) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	return h.file.leases.Renew(id)
}

// Revoke implements driver.Leaser.
func (h *handle) Revoke(ctx context.Context, id driver.LeaseID) error {
	_, _, err := write(ctx, h, func() (none struct{}, _ error) { return none, h.file.end(id, true) })
	return err
}

// load begins the leases that the file remembers. None ends before all that is
// attached is known.
func (f *file) load(tx *bbolt.Tx) error {
	f.writer <- struct{}{}
	defer func() { <-f.writer }()
	return errors.Join(
		tx.Bucket(leaseBucket).ForEach(func(id, ttl []byte) error {
			f.begin(driver.LeaseID(id), time.Duration(binary.BigEndian.Uint64(ttl)))
			return nil
		}),
		tx.Bucket(attachedBucket).ForEach(func(key, id []byte) error {
			f.leases.Attach(&driver.Swap{Key: string(key), Lease: driver.LeaseID(id)})
			return nil
		}))
}

func (f *file) grant(ttl time.Duration) (id driver.LeaseID, err error) {
	_, err = f.commit(func(tx *bbolt.Tx) error {
		b := tx.Bucket(leaseBucket)
		n, err := b.NextSequence()
		id = driver.LeaseID(strconv.FormatUint(n, 10))
		return errors.Join(err, b.Put([]byte(id), binary.BigEndian.AppendUint64(nil, uint64(ttl))))
	})
	if err != nil {
		return "", err
	}
	f.begin(id, ttl)
	return id, nil
}

func (f *file) begin(id driver.LeaseID, ttl time.Duration) {
	f.leases.Begin(id, ttl, func() error {
		f.writer <- struct{}{}
		defer func() { <-f.writer }()
		return f.end(id, false)
	})
}

// end removes a lease whose time is up, or any if revoke is set, and what is attached
// to it. The caller holds f.writer.
func (f *file) end(id driver.LeaseID, revoke bool) error {
	keys, over := f.leases.End(id, revoke)
	if !over {
		return nil
	}
	_, err := f.commit(func(tx *bbolt.Tx) (err error) {
		b, attached := tx.Bucket(bucket), tx.Bucket(attachedBucket)
		for _, key := range keys {
			err = errors.Join(err, b.Delete([]byte(key)), attached.Delete([]byte(key)))
		}
		return errors.Join(err, tx.Bucket(leaseBucket).Delete([]byte(id)))
	})
	if err != nil {
		return err
	}
	f.leases.Remove(id)
	for _, key := range keys {
		f.feed.Tell(driver.Entry{Key: key})
	}
	return nil
}

// attach notes in tx to which lease a key is attached that s writes. The caller
// holds f.writer.
func (f *file) attach(tx *bbolt.Tx, s driver.Swap) error {
	b := tx.Bucket(attachedBucket)
	switch {
	case s.Lease != "" && !f.leases.Live(s.Lease):
		return driver.ErrLeaseLost
	case s.Lease != "" && !s.Remove:
		return b.Put([]byte(s.Key), []byte(s.Lease))
	}
	return b.Delete([]byte(s.Key))
}
