//go:build linux

package postgres

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

// A server whose process is killed loses commits that didn't wait for its log, and
// gives their versions again: so writes do wait, where the server's default is
// another.
func TestCrashTakesNoVersionBack(t *testing.T) {
	n := start(t)
	if err := n.admin(t.Context(), "ALTER SYSTEM SET synchronous_commit = off", "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	s := open(t, n.config())
	var last driver.Entry
	for i := range 20 { // the first has the log written once more
		last = drivertest.Put(t, s, fmt.Sprint("k", i), "v")
	}
	n.kill()
	if err := n.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := drivertest.Get(t, open(t, n.config()), last.Key); e.Version != last.Version {
		t.Errorf("after a crash: %+v, want %+v", e, last)
	}
}

// Writers wait for each other and don't fail, where the server's default is to
// refuse what can't be in one order with others.
func TestSerializableByDefault(t *testing.T) {
	n := start(t)
	if err := n.admin(t.Context(), "ALTER ROLE postgres SET default_transaction_isolation = serializable"); err != nil {
		t.Fatal(err)
	}
	drivertest.Put(t, open(t, n.config()), "k", "v")
	var writers sync.WaitGroup
	for i := range 4 {
		s := open(t, n.config())
		writers.Go(func() {
			for j := range 20 {
				drivertest.Swap(t, s, driver.Swap{Key: fmt.Sprint(i, "/", j)}, driver.Applied)
			}
		})
	}
	writers.Wait()
}

// One table may have several names, and long ones: all hear of its writes.
func TestNamesOfATable(t *testing.T) {
	n := start(t)
	long := strings.Repeat("s", 51)
	if err := n.admin(t.Context(), "CREATE SCHEMA "+long); err != nil {
		t.Fatal(err)
	}
	for _, names := range [][2]string{{"polykv", "public.polykv"}, {long + "." + strings.Repeat("t", 51), long + "." + strings.Repeat("t", 51)}} {
		cfg := n.config()
		cfg.Table = names[0]
		writer := open(t, cfg)
		drivertest.Put(t, writer, "k", "1")
		cfg.Table = names[1]
		f := drivertest.Follow(t.Context(), t, open(t, cfg), driver.Range{Key: "k"}, nil)
		f.Sees(t, map[string]string{"k": "1"})
		drivertest.Swap(t, writer, driver.Swap{Key: "k", Prev: drivertest.Get(t, writer, "k"), Value: []byte("2")}, driver.Applied)
		f.Sees(t, map[string]string{"k": "2"})
	}
}

// A session doesn't go on that would hear of another server's writes than it
// reads, as when a replica was promoted and the primary runs on.
func TestListenerOfAnother(t *testing.T) {
	old, promoted := start(t), start(t)
	s, other := open(t, old.config()), open(t, promoted.config())
	if _, err := s.listeners.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.pool, other.pool = other.pool, s.pool
	f := drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil)
	if err := f.Ends(t); err == nil || t.Context().Err() != nil {
		t.Errorf("the session ended: %v", err)
	}
	f = drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil)
	f.IsSynced(t)
	drivertest.Put(t, open(t, promoted.config()), "k", "v")
	f.Sees(t, map[string]string{"k": "v"})
}

// A pooler refuses a connection that asks for settings which it doesn't know at
// its beginning.
func TestStartsPlainly(t *testing.T) {
	cfg := open(t, *NewConfig()).pool.Config().ConnConfig
	if _, ok := cfg.RuntimeParams["application_name"]; !ok || len(cfg.RuntimeParams) != 1 {
		t.Errorf("the connection begins with %v", cfg.RuntimeParams)
	}
}
