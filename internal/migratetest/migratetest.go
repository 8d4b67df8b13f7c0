// Package migratetest helps tests that move clients which are at work.
package migratetest

import (
	"context"
	"errors"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// WhenReady runs a cutover or a roll-back again, as an operator would, while a
// client that has just begun, or a mirror that is late, keeps it from beginning,
// and when a store that is too busy had it undone by the end of the longest pause.
func WhenReady(ctx context.Context, command func(context.Context) (migrate.Result, error)) (migrate.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		result, err := command(ctx)
		later := errors.As(err, new(*migrate.NotReadyError)) || errors.Is(err, migrate.ErrPause) && errors.As(err, new(*migrate.UndoneError))
		if !later || wait.For(ctx, time.Second) != nil {
			return result, err
		}
	}
}
