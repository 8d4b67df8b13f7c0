package bolt

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// errDecline rolls a transaction back that has nothing to write.
var errDecline = errors.New("nothing to write")

// swap carries s out in one transaction and tells the watches. The caller
// holds f.writer, so the order of the commits is that of the events.
func (f *file) swap(s driver.Swap) (driver.Result, error) {
	var r driver.Result
	outcome, err := f.commit(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		if !hold(b, s.Guards) {
			r.Outcome = driver.GuardBroken
			return errDecline
		}
		if now := read(b, s.Key); now.Version != s.Prev.Version {
			r = driver.Result{Outcome: driver.Conflict, Entry: now, Known: true}
			return errDecline
		}
		index, err := b.NextSequence()
		if err = errors.Join(err, f.attach(tx, s)); err != nil {
			return err
		}
		r = driver.Result{Outcome: driver.Applied, Entry: driver.Entry{Key: s.Key}, Known: true}
		if s.Remove {
			return b.Delete([]byte(s.Key))
		}
		stored := encode(driver.Version(index), s)
		r.Entry = decode(s.Key, stored)
		return b.Put([]byte(s.Key), stored)
	})
	switch {
	case errors.Is(err, errDecline):
		return r, nil
	case err != nil:
		return driver.Result{Outcome: outcome}, err
	}
	f.leases.Attach(&s)
	f.feed.Tell(r.Entry)
	return r, nil
}

// commit carries do out in one transaction and tells what became of it. The caller
// holds f.writer.
//
// A commit writes the pages of data, syncs them, writes the page that makes
// them current, and syncs that. If a new transaction doesn't show this
// one, that last page was not written, and never will be: nothing was
// applied, be the disk full or broken. If it does show it, only the last sync
// can have failed. What was written may be lost with the machine then, and so may
// everything that is built on it, so the file is not used any more.
func (f *file) commit(do func(*bbolt.Tx) error) (driver.Outcome, error) {
	if err := f.broken(); err != nil {
		return driver.NotApplied, err
	}
	var id, current int // of this transaction, once it may be committed, and of the last one that can be seen
	err := f.update(func(tx *bbolt.Tx) error {
		if err := do(tx); err != nil {
			return err
		}
		id = tx.ID()
		return nil
	})
	if err == nil {
		return driver.Applied, nil
	}
	viewErr := f.bolt.View(func(tx *bbolt.Tx) error {
		current = tx.ID()
		return nil
	})
	if kit.NoRoom(err.Error()) {
		err = fmt.Errorf("%w: %w", driver.ErrFull, err)
	}
	if id == 0 || (viewErr == nil && current < id) {
		return driver.NotApplied, err
	}
	f.failure = driver.Permanent(fmt.Errorf("%s: a commit failed, so the file must be closed and opened again: %w", f.cfg.Path, err))
	close(f.failed)
	return driver.Unknown, err
}

// broken returns why the file can't be used any more, if so.
func (f *file) broken() error {
	select {
	case <-f.failed:
		return f.failure
	default:
		return nil
	}
}
