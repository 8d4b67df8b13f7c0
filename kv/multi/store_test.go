package multi_test

import (
	"context"
	"errors"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// plantIn writes keys past polykv into all of stores.
func plantIn(stores ...*inmemory.Store) func(ctx context.Context, key string, value []byte) error {
	return func(ctx context.Context, key string, value []byte) error {
		for _, s := range stores {
			handle := s.Open()
			prev, err := handle.Get(ctx, driver.GetRequest{Key: key})
			if err == nil {
				prev.Key = key
				var result driver.Result
				result, err = handle.Swap(ctx, driver.Swap{Prev: prev, Key: key, Value: value, ID: 1})
				if err == nil && result.Outcome != driver.Applied {
					err = kv.ErrConflict
				}
			}
			if err := errors.Join(err, handle.Close()); err != nil {
				return err
			}
		}
		return nil
	}
}
