package bolt

import (
	"context"
	"errors"
	"iter"

	"github.com/polykv/polykv/kv/driver"
)

// Watch implements driver.Store.
//
// Nobody writes between the registration of the session and the begin of its
// snapshot, so each commit is in one of the two.
func (h *handle) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	if err := h.turn(ctx); err != nil {
		return err
	}
	tx, err := h.file.bolt.Begin(false)
	if err != nil {
		<-h.file.writer
		return err
	}
	err = h.file.feed.Watch(ctx, h.file.failed, req.Range, emit, func(register func()) iter.Seq[driver.Entry] {
		register()
		<-h.file.writer
		return func(yield func(driver.Entry) bool) {
			defer func() { _ = tx.Rollback() }() // fails for one that is closed only
			_ = each(ctx, tx, req.Range, "", func(key string, stored []byte) bool { return yield(decode(key, stored)) })
		}
	})
	if errors.Is(err, driver.ErrClosed) {
		return h.file.failure
	}
	return err
}
