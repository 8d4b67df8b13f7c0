//go:build linux

package postgres

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver/certs"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// A server whose process is killed loses commits that didn't wait for its log, and
// gives their versions again: so writes do wait, where the server's default is
// another.
func TestCrashTakesNoVersionBack(t *testing.T) {
	n := start(t)
	if err := n.SQL(t.Context(), "ALTER SYSTEM SET synchronous_commit = off", "ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()"); err != nil {
		t.Fatal(err)
	}
	s := open(t, n.config())
	var last driver.Entry
	for i := range 20 { // the first has the log written once more
		last = drivertest.Put(t, s, fmt.Sprint("k", i), "v")
	}
	n.Kill()
	if err := n.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := drivertest.Get(t, open(t, n.config()), last.Key); e.Version != last.Version {
		t.Errorf("after a crash: %+v, want %+v", e, last)
	}
}

// Connections have settings of their own: writers wait for each other and don't fail,
// where the server's default is to refuse what can't be in one order with others.
func TestSettings(t *testing.T) {
	n := start(t)
	if err := n.SQL(t.Context(), "ALTER ROLE postgres SET default_transaction_isolation = serializable"); err != nil {
		t.Fatal(err)
	}
	first := open(t, n.config())
	drivertest.Put(t, first, "k", "v")
	for setting, want := range map[string]string{ // a client that is gone without a word must not hold a connection for hours
		"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "lock_timeout": "2s",
	} {
		var got string
		if err := first.pool.QueryRow(t.Context(), "SHOW "+setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s: %v", setting, got, err)
		}
	}
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
	if err := n.SQL(t.Context(), "CREATE SCHEMA "+long); err != nil {
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

// What is configured is what connections are made with.
func TestPool(t *testing.T) {
	cfg := *NewConfig()
	cfg.Database, cfg.Username, cfg.Password = "d", "u", config.NewSecret("secret")
	cfg.DialTimeout, cfg.MaxConns = 7*time.Second, 3
	p := open(t, cfg).pool.Config()
	if c := p.ConnConfig; c.Database != "d" || c.User != "u" || c.Password != "" || c.ConnectTimeout != cfg.DialTimeout || c.TLSConfig != nil || p.MaxConns != 3 {
		t.Errorf("%+v, %+v", p, c)
	}
	c := p.ConnConfig.Copy()
	if err := p.BeforeConnect(t.Context(), c); err != nil || c.Password != "secret" {
		t.Errorf("the password is %q: %v", c.Password, err)
	}
	cfg.TLS.Enabled, cfg.Servers = true, []string{"a:1", "b:2"}
	c = open(t, cfg).pool.Config().ConnConfig
	if c.TLSConfig == nil || len(c.Fallbacks) != 1 || c.Fallbacks[0].TLSConfig == nil {
		t.Errorf("a connection is plain: %+v", c)
	}
}

// A table that is made again is another history, of which nothing is taken for one of
// the first, and each connection is an epoch.
func TestTableIsMadeAgain(t *testing.T) {
	n := start(t)
	for name, end := range map[string]string{
		"connections end": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'polykv'", "connections live": "SELECT 1",
	} {
		t.Run(name, func(t *testing.T) { tableIsMadeAgain(t, n, end) })
	}
}

func tableIsMadeAgain(t *testing.T, n *server, end string) {
	cfg := n.config()
	cfg.Table = fmt.Sprint("t", len(end))
	s, writer := open(t, cfg), open(t, cfg)
	before, epoch := drivertest.Put(t, s, "k", "v"), s.Epoch()
	seen := drivertest.Get(t, writer, "k")
	if e := drivertest.Get(t, s, "k"); e.Generation != before.Generation || s.Epoch() != epoch {
		t.Errorf("on one connection: %+v, was %+v; epoch %d, was %d", e, before, s.Epoch(), epoch)
	}
	f := drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil)
	f.IsSynced(t)
	idle := drivertest.Follow(t.Context(), t, open(t, cfg), driver.Range{Key: "k"}, nil) // of a handle that makes no calls
	idle.IsSynced(t)
	if err := n.SQL(t.Context(), s.names.Replace("DROP TABLE {t}, {l}"), s.names.Replace("DROP FUNCTION {f}, {e}"), end); err != nil {
		t.Fatal(err)
	}
	another := open(t, cfg)
	now := drivertest.Put(t, another, "k", "another")
	drivertest.Put(t, another, "more", "v") // so that no version has fallen
	if end == "SELECT 1" {
		drivertest.Swap(t, writer, driver.Swap{Key: "k", Prev: seen, Value: []byte("late")}, driver.NotApplied)
	}
	if now.Version != before.Version {
		t.Fatalf("version %d in the new table, %d in the old one", now.Version, before.Version)
	}
	drivertest.Eventually(t, func() error { // on another connection
		_, err := s.Get(t.Context(), driver.GetRequest{Key: "k"})
		return err
	})
	if e := drivertest.Get(t, s, "k"); e.Generation == before.Generation || s.Epoch() == epoch {
		t.Errorf("%+v, was %+v; epoch %d, was %d", e, before, s.Epoch(), epoch)
	}
	drivertest.Swap(t, s, driver.Swap{Key: "k", Prev: before, Value: []byte("late")}, driver.Conflict)
	for _, f := range []*drivertest.Follower{f, idle} {
		if err := f.Ends(t); err == nil || t.Context().Err() != nil {
			t.Errorf("a session of the old table ended: %v", err)
		}
	}
	drivertest.Eventually(t, func() error { // by a listener of the new one
		f := drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil)
		defer f.Stop()
		for f.Synced() == 0 {
			select {
			case <-f.Done():
				return errors.New("a session ended at once")
			case <-time.After(time.Millisecond):
			}
		}
		drivertest.Put(t, s, "k", "news")
		f.Sees(t, map[string]string{"k": "news"})
		return nil
	})
}

// A table that is gone is made by whoever misses it.
func TestTableIsGone(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	drivertest.Put(t, s, "k", "v")
	if err := n.SQL(t.Context(), "DROP TABLE polykv, polykv_leases", "DROP FUNCTION polykv_swap, polykv_expire"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), driver.GetRequest{Key: "k"}); err == nil {
		t.Error("there is no table")
	}
	if e := drivertest.Get(t, s, "k"); e.Exists() {
		t.Errorf("a new table has %+v", e)
	}
}

// A lease lasts for what was asked for, and for some time more; renewed, for as long
// again.
func TestTimesOfLeases(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	for ask, want := range map[time.Duration]time.Duration{0: s.MinLease(), time.Hour: time.Hour} {
		g, err := s.Grant(t.Context(), ask)
		if err != nil || g.TTL != want || g.Bound != want+spare+overdue {
			t.Errorf("asked for %v: %+v, %v", ask, g, err)
		}
		holds := func(what, sql string) {
			t.Helper()
			if err := n.SQL(t.Context(), "DO $$ BEGIN ASSERT "+sql+"; END $$"); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if ask == 0 {
			continue
		}
		const ends = "(SELECT ends - clock_timestamp() FROM polykv_leases WHERE ttl > '1 hour')"
		holds("granted", "(SELECT count(*) FROM polykv_leases WHERE ttl = '1 hour 1 second') = 1")
		holds("granted", ends+" BETWEEN '50 minutes' AND '1 hour 1 second'")
		if err := n.SQL(t.Context(), "UPDATE polykv_leases SET ends = clock_timestamp() + '1 minute'"); err != nil {
			t.Fatal(err)
		}
		if err := s.Renew(t.Context(), g.ID); err != nil {
			t.Error(err)
		}
		holds("renewed", ends+" BETWEEN '50 minutes' AND '1 hour 1 second'")
	}
}

// A position that is up to date stays so where nothing was written in its range, up to
// what is forgotten.
func TestPositionsThatAreForgotten(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	drivertest.Put(t, s, "k", "v")
	r := driver.Range{Key: "k"}
	_, from, err := s.since(t.Context(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Put(t, s, "other", "v")
	for forgotten, same := range map[uint64]bool{from.now - 1: true, from.now: true, from.now + 1: false} {
		if err := n.SQL(t.Context(), fmt.Sprintf("UPDATE polykv SET write = %d WHERE key = ''", forgotten)); err != nil {
			t.Fatal(err)
		}
		at, err := s.Locate(t.Context(), r, from)
		if err != nil || at.(*position).now == from.now != same || !at.Covers(from) {
			t.Errorf("up to %d is forgotten, and %+v is now %+v: %v", forgotten, from, at, err)
		}
		if _, _, err := s.since(t.Context(), r, from); errors.Is(err, errBehind) == same {
			t.Errorf("up to %d is forgotten, and what is newer than %d: %v", forgotten, from.now, err)
		}
	}
	if at, err := s.Locate(t.Context(), r, nil); err != nil || at.(*position).now != from.now+1 {
		t.Errorf("from nowhere: %+v, %v", at, err)
	}
}

func TestServersOfIPv6(t *testing.T) {
	cfg := *NewConfig()
	cfg.Servers = []string{"[::1]:5432", "a:1", "[fe80::1%eth0]:5433"}
	c := open(t, cfg).pool.Config().ConnConfig
	got := fmt.Sprintln(c.Host, c.Port)
	for _, f := range c.Fallbacks {
		got += fmt.Sprintln(f.Host, f.Port)
	}
	if want := "::1 5432\na 1\nfe80::1%eth0 5433\n"; got != want {
		t.Errorf("%q, want %s", got, want)
	}
}

func TestPasswordIsReplaced(t *testing.T) {
	n := start(t)
	hba := "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	err := errors.Join(os.WriteFile(filepath.Join(n.Data, "pg_hba.conf"), []byte(hba), 0o600),
		n.SQL(t.Context(), "CREATE ROLE app SUPERUSER LOGIN PASSWORD 'token'", "SELECT pg_reload_conf()"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := n.config()
	cfg.Username = "app"
	drivertest.PasswordIsReplaced(t, "token", func(file string) driver.Store {
		cfg.PasswordFile = file
		return open(t, cfg)
	})
}

func TestTLS(t *testing.T) {
	n := start(t)
	authority, err := certs.NewAuthority(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Server("server")
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{pair.CertFile: "server.crt", pair.KeyFile: "server.key"} {
		text, err := os.ReadFile(from)
		if err = errors.Join(err, os.WriteFile(filepath.Join(n.Data, to), text, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(n.Own(n.Data), n.SQL(t.Context(), "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")); err != nil {
		t.Fatal(err)
	}
	cfg := n.config()
	cfg.Servers = []string{drivertest.Unused(t), n.Addr()} // each is asked for its certificate
	cfg.TLS.Enabled = true
	drivertest.Eventually(t, func() error { // once the server has read its configuration
		if _, err := open(t, cfg).Get(t.Context(), driver.GetRequest{Key: "k"}); !driver.IsPermanent(err) {
			return fmt.Errorf("a certificate of nobody known: %w", err)
		}
		return nil
	})
	cfg.TLS.CAFile = authority.File()
	s := open(t, cfg)
	drivertest.Put(t, s, "k", "v")
	f := drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil)
	f.Sees(t, map[string]string{"k": "v"})
	if err := n.SQL(t.Context(), "DO $$ BEGIN ASSERT (SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'polykv') > 1; END $$"); err != nil {
		t.Error(err)
	}
}
