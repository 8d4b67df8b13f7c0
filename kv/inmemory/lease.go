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

// leases are those of a store, under its lock.
type leases struct {
	granted  uint64
	open     map[driver.LeaseID]*lease
	attached map[string]driver.LeaseID // by key
}

type lease struct {
	ttl   time.Duration
	ends  time.Time
	timer *time.Timer // of its end
	keys  map[string]struct{}
}

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
	s := h.store
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lease(id)
	if l == nil {
		return driver.ErrLeaseLost
	}
	l.ends = time.Now().Add(l.ttl)
	l.timer.Reset(l.ttl)
	return nil
}

// Revoke implements driver.Leaser.
func (h *handle) Revoke(ctx context.Context, id driver.LeaseID) error {
	if err := h.check(ctx); err != nil {
		return err
	}
	h.store.mu.Lock()
	defer h.store.mu.Unlock()
	h.store.end(id)
	return nil
}

func (s *Store) grant(ttl time.Duration) driver.LeaseID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leases.open == nil {
		s.leases.open, s.leases.attached = map[driver.LeaseID]*lease{}, map[string]driver.LeaseID{}
	}
	s.leases.granted++
	id := driver.LeaseID(strconv.FormatUint(s.leases.granted, 10))
	s.leases.open[id] = &lease{
		ttl: ttl, ends: time.Now().Add(ttl), keys: map[string]struct{}{},
		timer: time.AfterFunc(ttl, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.lease(id)
		}),
	}
	return id
}

// lease returns a lease that is not over, and ends one whose time is up; s.mu is
// held.
func (s *Store) lease(id driver.LeaseID) *lease {
	l := s.leases.open[id]
	if l != nil && !time.Now().Before(l.ends) {
		s.end(id)
		return nil
	}
	return l
}

// end removes a lease and what is attached to it; s.mu is held.
func (s *Store) end(id driver.LeaseID) {
	l := s.leases.open[id]
	if l == nil {
		return
	}
	delete(s.leases.open, id)
	l.timer.Stop()
	for key := range l.keys {
		delete(s.leases.attached, key)
		tree, c := s.cell(key)
		s.write(tree, c, &driver.Swap{Key: key, Remove: true})
	}
}

// attach notes to which lease a key is attached that is written by sw; s.mu is
// held.
func (s *Store) attach(sw *driver.Swap) {
	if before, ok := s.leases.attached[sw.Key]; ok && before != sw.Lease {
		delete(s.leases.open[before].keys, sw.Key)
		delete(s.leases.attached, sw.Key)
	}
	if l := s.leases.open[sw.Lease]; l != nil && !sw.Remove {
		l.keys[sw.Key] = struct{}{}
		s.leases.attached[sw.Key] = sw.Lease
	}
}
