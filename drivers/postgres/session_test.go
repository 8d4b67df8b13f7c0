//go:build linux

package postgres

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

// Who may only read ends leases all the same, by the tables of their owner, whatever
// tables he calls by their names.
func TestReadersEndLeases(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	drivertest.Put(t, s, "k", "v")
	err := n.SQL(t.Context(), "CREATE USER reader", "GRANT SELECT ON polykv, polykv_leases TO reader",
		"CREATE SCHEMA elsewhere", "CREATE TABLE elsewhere.polykv_leases (LIKE polykv_leases)", "GRANT USAGE ON SCHEMA elsewhere TO reader",
		"GRANT SELECT ON elsewhere.polykv_leases TO reader", "ALTER USER reader SET search_path = elsewhere, public")
	if err != nil {
		t.Fatal(err)
	}
	cfg := n.config()
	cfg.Username = "reader"
	f := drivertest.Follow(t.Context(), t, open(t, cfg), driver.Range{IsPrefix: true}, nil)
	f.Sees(t, map[string]string{"k": "v"})
	g, err := s.Grant(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Swap(t, s, driver.Swap{Key: "attached", Value: []byte("v"), Lease: g.ID}, driver.Applied)
	f.Sees(t, map[string]string{"k": "v", "attached": "v"})
	f.Sees(t, map[string]string{"k": "v"})
	if err := n.SQL(t.Context(), "DO $$ BEGIN ASSERT (SELECT count(*) FROM polykv_leases) = 0; END $$"); err != nil {
		t.Errorf("the lease is still there: %v", err)
	}
}

// What is removed is attached to nothing, so that its lease ends without it; and a lease
// that is lost is told whatever became of the key.
func TestRemovedUnderALease(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	g, err := s.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	w := driver.Swap{Key: "k", Value: []byte("v"), Lease: g.ID}
	w.Prev = drivertest.Swap(t, s, w, driver.Applied).Entry
	w.Remove, w.Value = true, nil
	drivertest.Swap(t, s, w, driver.Applied)
	if err := n.SQL(t.Context(), "DO $$ BEGIN ASSERT (SELECT lease FROM polykv WHERE key = 'k') = 0; END $$"); err != nil {
		t.Error(err)
	}
	if err := s.Revoke(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	w.ID = 2
	if r, err := s.Swap(t.Context(), w); r.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrLeaseLost) {
		t.Errorf("a write of another state under a lease that is over: %v, %v", r.Outcome, err)
	}
}

// A session that ended is woken no more.
func TestEndedSessionsAreForgotten(t *testing.T) {
	s := open(t, start(t).config())
	f := drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil)
	f.IsSynced(t)
	f.Stop()
	if err := f.Ends(t); err == nil {
		t.Error("a session ended without a reason")
	}
	l, err := s.listeners.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.wakes.Range(func(_, of any) bool {
		t.Errorf("a session of %v is still woken", of)
		return true
	})
}

// Those who find no table at once all make one, and none is refused for that.
func TestTableIsMadeByMany(t *testing.T) {
	n := start(t)
	var all sync.WaitGroup
	for range 16 {
		s := open(t, n.config())
		all.Go(func() {
			if _, err := s.Get(t.Context(), driver.GetRequest{Key: "k"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
