package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// leasingStore is the in-memory store with its leases broken.
type leasingStore struct {
	brokenStore
	driver.Leaser
	grant  func(ctx context.Context, ttl time.Duration) (driver.Grant, error)
	renew  func(ctx context.Context, id driver.LeaseID) error
	revoke func(ctx context.Context, id driver.LeaseID) error
}

func (l *leasingStore) Grant(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
	if l.grant != nil {
		return l.grant(ctx, ttl)
	}
	return l.Leaser.Grant(ctx, ttl)
}

func (l *leasingStore) Renew(ctx context.Context, id driver.LeaseID) error {
	if l.renew != nil {
		return l.renew(ctx, id)
	}
	return l.Leaser.Renew(ctx, id)
}

func (l *leasingStore) Revoke(ctx context.Context, id driver.LeaseID) error {
	if l.revoke != nil {
		return l.revoke(ctx, id)
	}
	return l.Leaser.Revoke(ctx, id)
}

func leasing(breakIt func(l *leasingStore)) Harness {
	return Driver(func(T) Opener {
		data := inmemory.NewStore()
		return func() (driver.Store, error) {
			s := data.Open()
			leaser, _ := s.(driver.Leaser)
			l := &leasingStore{brokenStore: brokenStore{Store: s}, Leaser: leaser}
			breakIt(l)
			return l, nil
		}
	})
}

// forgetful is a store whose servers forget their leases when they are disturbed.
func forgetful() Harness {
	var forget []func(ctx context.Context) error
	h := leasing(func(l *leasingStore) {
		l.grant = func(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
			g, err := l.Leaser.Grant(ctx, ttl)
			forget = append(forget, func(ctx context.Context) error { return l.Leaser.Revoke(ctx, g.ID) })
			return g, err
		}
	})
	inner := h.New
	h.New = func(t T) Store {
		s := inner(t)
		s.Restart = func(ctx context.Context) error {
			for _, f := range forget {
				if err := f(ctx); err != nil {
					return err
				}
			}
			forget = nil
			return nil
		}
		s.ChangeLeader = s.Restart
		return s
	}
	return h
}

func leaseMutants() []mutant {
	return []mutant{
		{"a restarted server forgets its leases", "E1", "E1-restart E1-leader", forgetful()},
		{"a write of what was never read leaves the key attached", "E3", "E3-detached-unseen", Driver(func(T) Opener {
			data, attached := inmemory.NewStore(), map[string]driver.LeaseID{}
			return func() (driver.Store, error) {
				s := data.Open()
				leaser, _ := s.(driver.Leaser)
				l := &leasingStore{brokenStore: brokenStore{Store: s}, Leaser: leaser}
				l.swap = func(ctx context.Context, w driver.Swap) (driver.Result, error) {
					if w.Lease == "" && w.Prev.Exists() && w.Prev.Value == nil {
						w.Lease = attached[w.Key]
					}
					attached[w.Key] = w.Lease
					return s.Swap(ctx, w)
				}
				return l, nil
			}
		})},
		{"a renewal renews nothing", "E1", "E1-kept", leasing(func(l *leasingStore) {
			l.renew = func(context.Context, driver.LeaseID) error { return nil }
		})},
		{"a lease ends earlier than it is said to", "E2", "E2-expires E1-kept", leasing(func(l *leasingStore) {
			l.grant = func(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
				g, err := l.Leaser.Grant(ctx, ttl/8)
				g.TTL, g.Bound = ttl, 2*ttl
				return g, err
			}
		})},
		{"a lease never ends by itself", "E2", "E2-expires", leasing(func(l *leasingStore) {
			l.grant = func(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
				g, err := l.Leaser.Grant(ctx, time.Hour)
				g.TTL, g.Bound = ttl, 2*ttl
				return g, err
			}
		})},
		{"a lease that is revoked leaves its keys", "E2", "E2-revoked E3-detached", leasing(func(l *leasingStore) {
			l.revoke = func(context.Context, driver.LeaseID) error { return nil }
		})},
		{"a write without the lease leaves the key attached", "E3", "E3-detached", leasing(func(l *leasingStore) {
			attached := map[string]driver.LeaseID{}
			l.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
				if s.Lease == "" && !s.Remove {
					s.Lease = attached[s.Key]
				}
				attached[s.Key] = s.Lease
				return l.Store.Swap(ctx, s)
			}
		})},
		{"the owner is told when it is too late", "E4", "E4-told", leasing(func(l *leasingStore) {
			l.grant = func(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
				g, err := l.Leaser.Grant(ctx, ttl/2)
				g.TTL, g.Bound = ttl, 2*ttl
				return g, err
			}
		})},
		{"a write by a lease that is over is made without it", "E5", "E5-over", leasing(func(l *leasingStore) {
			l.swap = func(ctx context.Context, s driver.Swap) (driver.Result, error) {
				r, err := l.Store.Swap(ctx, s)
				if errors.Is(err, driver.ErrLeaseLost) {
					s.Lease = ""
					return l.Store.Swap(ctx, s)
				}
				return r, err
			}
		})},
	}
}
