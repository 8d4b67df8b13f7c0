package conformance

import (
	"context"
	"errors"

	"github.com/polykv/polykv/kv/driver"
)

// whenFull is a remote store of which refuse takes the place of a full store's
// refusal. write makes the write all the same.
func whenFull(refuse func(write func()) (driver.Result, error)) Harness {
	return resuming(func(s *server, b *brokenStore) {
		b.swap = func(ctx context.Context, w driver.Swap) (driver.Result, error) {
			result, err := b.Store.Swap(ctx, w)
			if !errors.Is(err, driver.ErrFull) {
				return result, err
			}
			return refuse(func() { _, _ = s.data.Open().Swap(ctx, w) })
		}
	})
}

func fullMutants() []mutant {
	errDisk := errors.New("no space left on device")
	return []mutant{
		{"a full store is tried until time is up", "C8", "C8-full", whenFull(func(func()) (driver.Result, error) {
			return driver.Result{Outcome: driver.NotApplied}, errDisk
		})},
		{"a full store's refusal leaves the outcome unknown", "C8", "C8-full", whenFull(func(func()) (driver.Result, error) {
			return driver.Result{Outcome: driver.Unknown}, errDisk
		})},
		{"a full store's refusal is taken for success", "C8", "C8-full", whenFull(func(func()) (driver.Result, error) {
			return driver.Result{Outcome: driver.Applied}, nil
		})},
		{"a write that is refused by a full store is made when there is room", "C8", "C8-full", whenFull(func(write func()) (driver.Result, error) {
			write()
			return driver.Result{Outcome: driver.NotApplied}, driver.ErrFull
		})},
	}
}
