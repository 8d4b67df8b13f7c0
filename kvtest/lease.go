package kvtest

import (
	"context"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

var _ driver.Leaser = (*Store)(nil)

// MinLease implements driver.Leaser; it is 0 if the store has no leases.
func (l *Store) MinLease() time.Duration {
	if leaser, ok := l.store.(driver.Leaser); ok {
		return leaser.MinLease()
	}
	return 0
}

// Grant implements driver.Leaser.
func (l *Store) Grant(ctx context.Context, ttl time.Duration) (grant driver.Grant, err error) {
	err = l.lease(ctx, func(ctx context.Context, leaser driver.Leaser) error {
		grant, err = leaser.Grant(ctx, ttl)
		return err
	})
	return grant, err
}

// Renew implements driver.Leaser.
func (l *Store) Renew(ctx context.Context, id driver.LeaseID) error {
	return l.lease(ctx, func(ctx context.Context, leaser driver.Leaser) error { return leaser.Renew(ctx, id) })
}

// Revoke implements driver.Leaser.
func (l *Store) Revoke(ctx context.Context, id driver.LeaseID) error {
	return l.lease(ctx, func(ctx context.Context, leaser driver.Leaser) error { return leaser.Revoke(ctx, id) })
}

func (l *Store) lease(ctx context.Context, do func(context.Context, driver.Leaser) error) error {
	leaser, ok := l.store.(driver.Leaser)
	if !ok {
		return driver.ErrNotSupported
	}
	ctx, leave, err := l.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return do(ctx, leaser)
}
