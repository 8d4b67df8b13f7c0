package feed

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// Leases keeps account of the leases of one store, by the clock of this process,
// and of what is attached to them. The zero value is ready to use. Renew, Live and
// Stop may be called at any time, the others under the store's lock of writers.
type Leases struct {
	mu       sync.Mutex
	open     map[driver.LeaseID]*lease
	attached map[string]driver.LeaseID // by key
	stopped  bool
	due      sync.WaitGroup // calls of due under way
}

// lease is one that is not removed yet.
type lease struct {
	ttl   time.Duration
	ends  time.Time
	over  bool
	timer *time.Timer
	keys  map[string]struct{}
}

func (l *lease) begin() {
	l.ends = time.Now().Add(l.ttl)
	l.timer.Reset(l.ttl)
}

// Begin begins a lease. due is called when its time is up, and again a second after it
// failed.
func (ls *Leases) Begin(id driver.LeaseID, ttl time.Duration, due func() error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.open == nil {
		ls.open, ls.attached = map[driver.LeaseID]*lease{}, map[string]driver.LeaseID{}
	}
	l := &lease{ttl: ttl, keys: map[string]struct{}{}}
	l.timer = time.AfterFunc(ttl, func() {
		ls.mu.Lock()
		call := !ls.stopped && ls.open[id] == l && ls.live(id) == nil
		if call {
			ls.due.Add(1)
			defer ls.due.Done()
		}
		ls.mu.Unlock()
		if call && due() != nil {
			l.timer.Reset(time.Second)
		}
	})
	l.begin()
	ls.open[id] = l
}

// live returns a lease that is not over, nil of others; ls.mu is held.
func (ls *Leases) live(id driver.LeaseID) *lease {
	if l := ls.open[id]; l != nil && !l.over && time.Now().Before(l.ends) {
		return l
	}
	return nil
}

// Live reports whether a lease is not over.
func (ls *Leases) Live(id driver.LeaseID) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.live(id) != nil
}

// Renew begins the time of a lease anew, unless it is over: driver.ErrLeaseLost.
func (ls *Leases) Renew(id driver.LeaseID) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.live(id)
	if l == nil {
		return driver.ErrLeaseLost
	}
	l.begin()
	return nil
}

// Attach notes that s was applied.
func (ls *Leases) Attach(s *driver.Swap) {
	if ls.open == nil {
		return
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if before := ls.open[ls.attached[s.Key]]; before != nil {
		delete(before.keys, s.Key)
		delete(ls.attached, s.Key)
	}
	if l := ls.open[s.Lease]; l != nil && !s.Remove {
		l.keys[s.Key] = struct{}{}
		ls.attached[s.Key] = s.Lease
	}
}

// End makes it certain that a lease is over, whatever its time if revoke is set, and
// returns what is attached to it. It is false for one that was renewed, or removed.
func (ls *Leases) End(id driver.LeaseID, revoke bool) (keys []string, over bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.open[id]
	if l == nil || !revoke && ls.live(id) != nil {
		return nil, false
	}
	l.over = true
	return slices.Sorted(maps.Keys(l.keys)), true
}

// Remove forgets a lease that is over, once what was attached to it is removed.
func (ls *Leases) Remove(id driver.LeaseID) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.open[id].timer.Stop()
	for key := range ls.open[id].keys {
		delete(ls.attached, key)
	}
	delete(ls.open, id)
}

// Stop ends no lease any more, and waits for calls of due that are under way.
func (ls *Leases) Stop() {
	ls.mu.Lock()
	ls.stopped = true
	for _, l := range ls.open {
		l.timer.Stop()
	}
	ls.mu.Unlock()
	ls.due.Wait()
}
