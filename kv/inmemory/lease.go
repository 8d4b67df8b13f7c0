package inmemory

import (
	"context"
	"strconv"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

var _ driver.Leaser = (*handle)(nil)

const (
	minLease = 100 * time.Millisecond
	// overdue is how late the runtime's timers may be.
	overdue = time.Second
)

// MinLease implements driver.Leaser.
func (h *handle) MinLease() time.Duration { return minLease }

// Grant implements driver.Leaser. Leases are the data's, not the handle's: they
// end by the clock of this process, whoever is closed.
func (h *handle) Grant(ctx context.Context, ttl time.Duration) (driver.Grant, error) {
	if err := h.check(ctx); err != nil {
		return driver.Grant{}, err
	}
	ttl = max(ttl, minLease)
	return driver.Grant{ID: h.store.grant(ttl), TTL: ttl, Bound: ttl + overdue}, nil
}

// Renew implements driver.Leaser.
func (h *handle) Renew(ctx context.Context, id driver.LeaseID) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	return h.store.leases.Renew(id)
}

// Revoke implements driver.Leaser.
func (h *handle) Revoke(ctx context.Context, id driver.LeaseID) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	h.store.end(id, true)
	return nil
}

func (s *Store) grant(ttl time.Duration) driver.LeaseID {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.granted++
	id := driver.LeaseID(strconv.FormatUint(s.granted, 10))
	s.leases.Begin(id, ttl, func() error { s.end(id, false); return nil })
	return id
}

// end removes a lease that is over, or is now, and what is attached to it.
func (s *Store) end(id driver.LeaseID, revoke bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys, over := s.leases.End(id, revoke)
	if !over {
		return
	}
	s.leases.Remove(id)
	for _, key := range keys {
		tree, c := s.cell(key)
		s.write(tree, c, &driver.Swap{Key: key, Remove: true})
	}
}
