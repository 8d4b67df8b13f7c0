//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
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
	granted := time.Now()
	g, err := s.Grant(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Swap(t, s, driver.Swap{Key: "attached", Value: []byte("v"), Lease: g.ID}, driver.Applied)
	f.Sees(t, map[string]string{"k": "v", "attached": "v"})
	f.Sees(t, map[string]string{"k": "v"})
	if late := time.Since(granted) - g.Bound; late > 0 {
		t.Errorf("it went %v after the time that was promised", late)
	}
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
	if r := drivertest.Swap(t, s, w, driver.Applied); !r.Known || r.Entry.Exists() {
		t.Errorf("what is left of it is %+v", r)
	}
	if err := n.SQL(t.Context(), "DO $$ BEGIN ASSERT (SELECT lease FROM polykv WHERE key = 'k') = 0; END $$"); err != nil {
		t.Error(err)
	}
	if err := s.Revoke(t.Context(), g.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.SQL(t.Context(), "DO $$ BEGIN ASSERT (SELECT count(*) FROM polykv_leases) = 0; END $$"); err != nil {
		t.Errorf("a lease that was revoked: %v", err)
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

// A page begins behind the one before, and says if there may be more; names have
// versions.
func TestPages(t *testing.T) {
	s := open(t, start(t).config())
	versions := map[string]driver.Version{}
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		versions[key] = drivertest.Put(t, s, key, "v").Version
	}
	var keys string
	req := driver.ScanRequest{Limit: 2, KeysOnly: true}
	for more := true; more && len(keys) < 10; {
		page, err := s.Scan(t.Context(), req)
		if err != nil || len(page.Entries) > req.Limit {
			t.Fatalf("%+v, %v", page, err)
		}
		for _, e := range page.Entries {
			if keys, req.After = keys+e.Key, e.Key; e.Version != versions[e.Key] {
				t.Errorf("%+v, want version %d", e, versions[e.Key])
			}
		}
		more = page.More
	}
	if keys != "abcde" {
		t.Errorf("the pages have %q", keys)
	}
}

// session runs one until it is in step, and returns what it told until then and whether it
// waited for a snapshot.
func session(t *testing.T, s *store, from driver.Position) (told []driver.Event, waited bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req := driver.WatchRequest{Range: driver.Range{IsPrefix: true}, Position: from, BeforeSnapshot: func(context.Context) error {
		waited = true
		return nil
	}}
	err := s.Watch(ctx, req, func(ev driver.Event) {
		told = append(told, ev)
		if ev.Type == driver.Synced {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(told) == 0 {
		t.Fatalf("%v ended the session, which told %v", err, told)
	}
	return told, waited
}

// A session goes on from where it was, but not in another history, nor where the server
// was stopped since.
func TestSessionsGoOn(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	drivertest.Put(t, s, "a", "1")
	told, waited := session(t, s, nil)
	at, _ := told[len(told)-1].Position.(*position)
	if at == nil || !waited || len(told) != 2 || told[0].Type != driver.Put || told[0].Position != nil {
		t.Fatalf("at first: %+v, waited: %v", told, waited)
	}
	drivertest.Put(t, s, "b", "2")
	if located, err := s.Locate(t.Context(), driver.Range{Key: "b"}, at); err != nil || located.(*position).now != at.now+1 {
		t.Errorf("the last write is at %+v, %v", located, err)
	}
	told, waited = session(t, s, at)
	if waited || len(told) != 3 || told[0].Type != driver.Resumed || told[1].Entry.Key != "b" {
		t.Errorf("from there: %+v, waited: %v", told, waited)
	}
	another := *at
	another.gen++
	told, waited = session(t, s, &another)
	if !waited || len(told) != 3 || told[0].Entry.Key != "a" {
		t.Errorf("from another history: %+v, waited: %v", told, waited)
	}
	if err := n.restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, func() error {
		_, err := s.Get(t.Context(), driver.GetRequest{Key: "a"})
		return err
	})
	told, waited = session(t, s, at)
	if !waited || len(told) != 3 {
		t.Errorf("from before a restart: %+v, waited: %v", told, waited)
	}
}

// Whatever is asked first of a table that was set back shows it.
func TestSetBackShows(t *testing.T) {
	n := start(t)
	for i, ask := range []func(s *store, before driver.Entry) (generation uint64){
		func(s *store, _ driver.Entry) uint64 { return drivertest.Get(t, s, "k").Generation },
		func(s *store, _ driver.Entry) uint64 {
			return drivertest.Swap(t, s, driver.Swap{Key: "new"}, driver.Applied).Entry.Generation
		},
		func(s *store, before driver.Entry) uint64 { // by a new connection
			s.pool.Reset()
			drivertest.Swap(t, s, driver.Swap{Key: "k", Prev: before}, driver.Conflict)
			return drivertest.Get(t, s, "k").Generation
		},
	} {
		cfg := n.config()
		cfg.Table = fmt.Sprint("t", i)
		s := open(t, cfg)
		var before driver.Entry
		for range 3 {
			before = drivertest.Put(t, s, "k", "v")
		}
		if err := n.SQL(t.Context(), "UPDATE "+cfg.Table+" SET version = 1 WHERE key = ''"); err != nil {
			t.Fatal(err)
		}
		if now := ask(s, before); now == before.Generation || now == 0 {
			t.Errorf("question %d: the generation is still %d", i, now)
		}
	}
}

// A lease that is ended while somebody writes gives no version that the write has.
func TestLeaseEndsAmidAWrite(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	g, err := s.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Swap(t, s, driver.Swap{Key: "attached", Lease: g.ID}, driver.Applied)
	if err := n.SQL(t.Context(), "UPDATE polykv_leases SET ends = 'epoch'"); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		written <- n.SQL(context.Background(), "BEGIN", "SELECT polykv_swap('k', 0, 'v', false, 1, '{}', '{}', 0)", "SELECT pg_sleep(1)", "COMMIT")
	}()
	patiently(t, func() error {
		return n.SQL(t.Context(), "DO $$ BEGIN ASSERT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'); END $$")
	})
	err = errors.Join(n.SQL(t.Context(), "SELECT polykv_expire()"), <-written,
		n.SQL(t.Context(), "DO $$ BEGIN ASSERT (SELECT count(*) = 3 AND count(DISTINCT version) = 2 AND max(version) = 3 AND max(version) FILTER (WHERE key = '') = 3 FROM polykv); END $$"))
	if err != nil {
		t.Error(err)
	}
}

// Of what becomes visible together only the last event has a position: a session that breaks
// off amid it goes on before the first.
func TestPositionsBetweenEvents(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	f := drivertest.Follow(t.Context(), t, s, driver.Range{IsPrefix: true}, nil)
	f.IsSynced(t)
	swap := func(key string) string { return "SELECT polykv_swap('" + key + "', 0, 'v', false, 1, '{}', '{}', 0)" }
	if err := n.SQL(t.Context(), "BEGIN", swap("a"), swap("b"), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	f.Sees(t, map[string]string{"a": "v", "b": "v"})
	events := f.Events()
	if a, b := events[len(events)-2], events[len(events)-1]; a.Position != nil || b.Position == nil {
		t.Errorf("the positions are %v and %v", a.Position, b.Position)
	}
}
