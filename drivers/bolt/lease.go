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

// lease is one that is not removed yet. It is guarded by file.mu.
type lease struct {
	ttl   time.Duration
	ends  time.Time
	over  bool
	timer *time.Timer
	keys  map[string]struct{}
}

// MinLease implements driver.Leaser.
func (h *handle) MinLease() time.Duration { return minLease }

// Grant implements driver.Leaser. Leases are the file's, not the handle's.
func (h *handle) Grant(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
	ttl = max(ttl, minLease)
	var id driver.LeaseID
	err := h.write(ctx, func() (err error) {
		id, err = h.file.grant(ttl)
		return err
	})
	return driver.Grant{ID: id, TTL: ttl, Bound: ttl + overdue}, err
}

// Renew implements driver.Leaser.
func (h *handle) Renew(ctx context.Context, id driver.LeaseID) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	h.file.mu.Lock()
	defer h.file.mu.Unlock()
	l := h.file.lease(id)
	if l == nil {
		return driver.ErrLeaseLost
	}
	l.begin()
	return nil
}

// Revoke implements driver.Leaser.
func (h *handle) Revoke(ctx context.Context, id driver.LeaseID) error {
	return h.write(ctx, func() error { return h.file.end(id) })
}

// write runs do as the only writer, and goes on with it when ctx ends.
func (h *handle) write(ctx context.Context, do func() error) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	select {
	case h.file.writer <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	h.commits.Go(func() {
		defer func() { <-h.file.writer }()
		done <- do()
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lease returns a lease that is not over; f.mu is held.
func (f *file) lease(id driver.LeaseID) *lease {
	l := f.leases[id]
	if l == nil || l.over || !time.Now().Before(l.ends) {
		return nil
	}
	return l
}

func (l *lease) begin() {
	l.ends = time.Now().Add(l.ttl)
	l.timer.Reset(l.ttl)
}

// begin begins a lease; f.mu is held, or nobody else has f yet.
func (f *file) begin(id driver.LeaseID, ttl time.Duration) *lease {
	l := &lease{ttl: ttl, keys: map[string]struct{}{}}
	l.timer = time.AfterFunc(ttl, func() { f.expire(id) })
	l.begin()
	f.leases[id] = l
	return l
}

func (f *file) grant(ttl time.Duration) (id driver.LeaseID, err error) {
	err = f.update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(leaseBucket)
		if err != nil {
			return err
		}
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists(attachedBucket); err != nil {
			return err
		}
		id = driver.LeaseID(strconv.FormatUint(n, 10))
		return b.Put([]byte(id), binary.BigEndian.AppendUint64(nil, uint64(ttl)))
	})
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begin(id, ttl)
	return id, nil
}

// load begins the leases that the file remembers.
func (f *file) load() error {
	return f.bolt.View(func(tx *bbolt.Tx) error {
		leases, attached := tx.Bucket(leaseBucket), tx.Bucket(attachedBucket)
		if leases == nil || attached == nil {
			return nil
		}
		err := leases.ForEach(func(id, ttl []byte) error {
			f.begin(driver.LeaseID(id), time.Duration(binary.BigEndian.Uint64(ttl)))
			return nil
		})
		if err != nil {
			return err
		}
		return attached.ForEach(func(key, id []byte) error {
			if l := f.leases[driver.LeaseID(id)]; l != nil {
				l.keys[string(key)] = struct{}{}
				f.attached[string(key)] = driver.LeaseID(id)
			}
			return nil
		})
	})
}

// expire ends a lease whose time is up.
func (f *file) expire(id driver.LeaseID) {
	f.mu.Lock()
	l := f.leases[id]
	due := l != nil && !f.closing && f.lease(id) == nil
	if due {
		f.expiring.Add(1)
	}
	f.mu.Unlock()
	if !due {
		return
	}
	defer f.expiring.Done()
	f.writer <- struct{}{}
	defer func() { <-f.writer }()
	f.mu.Lock()
	l.over = f.lease(id) == nil // it may have been renewed meanwhile
	over := l.over
	f.mu.Unlock()
	if over && f.end(id) != nil {
		l.timer.Reset(time.Second) // the disk may have room again
	}
}

// end removes a lease and what is attached to it. The caller holds f.writer.
func (f *file) end(id driver.LeaseID) error {
	f.mu.Lock()
	l := f.leases[id]
	if l == nil {
		f.mu.Unlock()
		return nil
	}
	l.over = true
	l.timer.Stop()
	f.mu.Unlock()
	err := f.update(func(tx *bbolt.Tx) error {
		b, attached := tx.Bucket(bucket), tx.Bucket(attachedBucket)
		for key := range l.keys {
			if err := errors.Join(b.Delete([]byte(key)), attached.Delete([]byte(key))); err != nil {
				return err
			}
		}
		return tx.Bucket(leaseBucket).Delete([]byte(id))
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	delete(f.leases, id)
	for key := range l.keys {
		delete(f.attached, key)
	}
	f.mu.Unlock()
	for key := range l.keys {
		f.feed.Tell(driver.Entry{Key: key})
	}
	return nil
}

// attach notes in tx to which lease a key is attached that s writes. The caller
// holds f.writer.
func (f *file) attach(tx *bbolt.Tx, s driver.Swap) error {
	f.mu.Lock()
	before, lost := f.attached[s.Key], s.Lease != "" && f.lease(s.Lease) == nil
	f.mu.Unlock()
	switch {
	case lost:
		return driver.ErrLeaseLost
	case s.Lease != "" && !s.Remove:
		return tx.Bucket(attachedBucket).Put([]byte(s.Key), []byte(s.Lease))
	case before != "":
		return tx.Bucket(attachedBucket).Delete([]byte(s.Key))
	}
	return nil
}

// noteAttached notes what attach wrote.
func (f *file) noteAttached(s driver.Swap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if before := f.leases[f.attached[s.Key]]; before != nil {
		delete(before.keys, s.Key)
	}
	delete(f.attached, s.Key)
	if l := f.leases[s.Lease]; l != nil && !s.Remove {
		l.keys[s.Key] = struct{}{}
		f.attached[s.Key] = s.Lease
	}
}

// stop ends what leases have running, before the file is closed.
func (f *file) stop() {
	f.mu.Lock()
	f.closing = true
	for _, l := range f.leases {
		l.timer.Stop()
	}
	f.mu.Unlock()
	f.expiring.Wait()
}
