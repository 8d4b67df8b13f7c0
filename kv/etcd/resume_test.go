package etcd

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// resumed runs a session from a position until its first Synced, and returns
// the types of its events and the last position.
func resumed(t *testing.T, s *store, r driver.Range, from driver.Position) (types []driver.EventType, at driver.Position) {
	t.Helper()
	ctx, cancel := context.WithCancel(drivertest.WithTimeout(t, time.Minute))
	defer cancel()
	synced := false
	err := s.Watch(ctx, driver.WatchRequest{Range: r, Position: from}, func(ev driver.Event) {
		types = append(types, ev.Type)
		if ev.Position != nil {
			at = ev.Position
		}
		if ev.Type == driver.Synced {
			synced = true
			cancel()
		}
	})
	if !synced {
		t.Fatalf("never in step: %v, %v", types, err)
	}
	return types, at
}

// A session goes on through a restart of its server, and without a word about
// keys that stayed as they were.
func TestSessionsResume(t *testing.T) {
	c := servertest.Etcd(t, testserver.Options{NoFsync: true})
	s := open(t, configFor(c))
	r := driver.Range{Key: "r/", IsPrefix: true}
	for i := range 50 {
		drivertest.Put(t, s, fmt.Sprintf("r/%02d", i), "v")
	}
	want := func(what string, types []driver.EventType, want ...driver.EventType) {
		t.Helper()
		if !slices.Equal(types, want) {
			t.Fatalf("%s: the session told %v, want %v", what, types, want)
		}
	}
	_, at := resumed(t, s, r, nil)
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	drivertest.Eventually(t, func() error {
		_, err := s.Get(t.Context(), driver.GetRequest{Key: "a"})
		return err
	})
	types, at := resumed(t, s, r, at)
	want("nothing happened", types, driver.Resumed, driver.Synced)
	drivertest.Put(t, s, "other", "v")
	types, at = resumed(t, s, r, at)
	want("nothing happened in the range", types, driver.Resumed, driver.Synced)
	drivertest.Put(t, s, "r/07", "new")
	drivertest.Swap(t, s, driver.Swap{Key: "r/08", Prev: drivertest.Get(t, s, "r/08"), Remove: true}, driver.Applied)
	types, at = resumed(t, s, r, at)
	want("a change and a deletion", types, driver.Resumed, driver.Put, driver.Delete, driver.Synced)
	drivertest.Swap(t, s, driver.Swap{Key: "r/09", Prev: drivertest.Get(t, s, "r/09"), Remove: true}, driver.Applied)
	types, at = resumed(t, s, r, at)
	want("a deletion alone", types, driver.Resumed, driver.Delete, driver.Synced)
	types, _ = resumed(t, s, driver.Range{Key: "r/07"}, &position{gen: 1, term: at.(*position).term, rev: at.(*position).rev, count: 1})
	want("a single key", types, driver.Resumed, driver.Synced)

	// A term that fell is that of servers which were begun anew.
	before := *at.(*position)
	before.term += 100
	if types, _ = resumed(t, s, r, &before); types[0] == driver.Resumed {
		t.Errorf("a session went on from a later term of the servers than there is")
	}

	drivertest.Put(t, s, "r/07", "new again")
	client, err := c.EtcdClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := client.Compact(t.Context(), int64(drivertest.Put(t, s, "r/07", "newer").Version)); err != nil {
		t.Fatal(err)
	}
	types, _ = resumed(t, s, r, at)
	if i := slices.Index(types, driver.Restart); i != 1 || len(types) != 51 {
		t.Errorf("after a compaction the session told %v, want Resumed, Restart and a snapshot", types)
	}
}
