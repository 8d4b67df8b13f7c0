//go:build linux

package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

func TestBadConfig(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"servers: at least one":        func(c *Config) { c.Servers = nil },
		"servers[0]: ":                 func(c *Config) { c.Servers = []string{"dnssrv+a.example.com"} },
		"tls.ca_file: ":                func(c *Config) { c.TLS.CAFile = "ca.pem" },
		"database: ":                   func(c *Config) { c.Database = "" },
		"username: ":                   func(c *Config) { c.Username = "" },
		"table: ":                      func(c *Config) { c.Table = "a; DROP TABLE b" },
		"dial_timeout: ":               func(c *Config) { c.DialTimeout = 0 },
		"max_conns: ":                  func(c *Config) { c.MaxConns = 0 },
		"max_value_size: ":             func(c *Config) { c.MaxValueSize = 1 << 30 },
		"password_file: is set":        func(c *Config) { c.Password, c.PasswordFile = config.NewSecret("secret"), "file" },
		"password_file: open /nowhere": func(c *Config) { c.PasswordFile = "/nowhere/file" },
	} {
		cfg := *NewConfig()
		change(&cfg)
		if _, err := Open(cfg, nil); err == nil || !strings.HasPrefix(err.Error(), field) || strings.Contains(err.Error(), "secret") {
			t.Errorf("want an error about %q, got %v", field, err)
		}
	}
}

func TestAfter(t *testing.T) {
	for prefix, want := range map[string]string{"a": "b", "a\xff": "b", "": "\xff", "ab": "ac"} {
		if got := string(after(prefix)); got != want {
			t.Errorf("after %q: %q, want %q", prefix, got, want)
		}
	}
}

func TestClosed(t *testing.T) {
	s, err := Open(start(t).config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.EmptyValue(t, s, "k")
	drivertest.EndedCtx(t, s, driver.Swap{Key: "k", ID: 1})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	drivertest.AfterClose(t, s)
}

// Answers that are lost leave it to a read to tell what was written.
func TestLostAnswer(t *testing.T) {
	n := start(t)
	direct := open(t, n.config())
	for name, lose := range drivertest.WaysToLose() {
		t.Run(name, func(t *testing.T) {
			proxy, err := testserver.NewProxy(n.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer proxy.Close()
			cfg := n.config()
			cfg.Servers = []string{proxy.Addr()}
			s := open(t, cfg)
			drivertest.Put(t, s, "other", name) // which prepares the statement
			w := driver.Swap{Key: name, Prev: drivertest.Get(t, s, name), Value: []byte("v"), ID: 1<<63 + 7}
			now := drivertest.LostAnswer(t, direct, s, proxy, w, lose)
			if o := s.Resolve(w, now); o != driver.Applied {
				t.Errorf("Resolve: %v", o)
			}
			w.ID++
			if o := s.Resolve(w, now); o != driver.Unknown {
				t.Errorf("Resolve of another's write: %v", o)
			}
		})
	}
}

// Every connection is ended again and again while clients count; each count is
// there once, and a watch sees the last.
func TestEveryConnectionIsTerminated(t *testing.T) {
	n := start(t)
	client := func() kv.Client {
		c := kv.New(open(t, n.config()), codec.String{}, &kv.Options{RetryTimeout: time.Minute})
		return c
	}
	const writers, each = 4, 50
	var counted sync.WaitGroup
	for range writers {
		c := client()
		counted.Go(func() {
			for done := 0; done < each; {
				err := c.CAS(t.Context(), "count", func(in any) (any, bool, error) {
					text, _ := in.(string)
					return text + "x", true, nil
				})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, kv.ErrIndeterminate): // of which nobody knows; the sum shows
					t.Error(err)
					return
				default:
					done++
				}
			}
		})
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	terminated := 0
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				if err := n.SQL(context.Background(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"); err == nil {
					terminated++
				}
			}
		}
	}()
	counted.Wait()
	close(stop)
	<-ended
	reader := open(t, n.config())
	total := len(drivertest.Get(t, reader, "count").Value)
	if terminated == 0 || total > writers*each {
		t.Errorf("%d counts after %d writes, all connections ended %d times", total, writers*each, terminated)
	}
	f := drivertest.Follow(t.Context(), t, reader, driver.Range{Key: "count"}, nil)
	f.Sees(t, map[string]string{"count": strings.Repeat("x", total)})
}

// Writers of many keys commit in the order of their versions, so that a watch that
// has come to one has missed none before it.
func TestNothingIsSkipped(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	f := drivertest.Follow(t.Context(), t, s, driver.Range{IsPrefix: true}, nil)
	f.IsSynced(t)
	want := map[string]string{}
	var writers sync.WaitGroup
	for i := range 8 {
		want[fmt.Sprint("k", i)] = "49"
		writers.Go(func() {
			w := open(t, n.config())
			prev := driver.Entry{}
			for j := range 50 {
				prev = drivertest.Swap(t, w, driver.Swap{Key: fmt.Sprint("k", i), Prev: prev, Value: fmt.Append(nil, j)}, driver.Applied).Entry
			}
		})
	}
	writers.Wait()
	f.Sees(t, want)
	seen := map[driver.Version]bool{}
	var last driver.Version
	for _, ev := range f.Events() {
		if v := ev.Entry.Version; v != 0 {
			if v < last || seen[v] {
				t.Fatalf("version %d after %d", v, last)
			}
			last, seen[v] = v, true
		}
	}
}

func TestPermissions(t *testing.T) {
	n := start(t)
	drivertest.Put(t, open(t, n.config()), "k", "v")
	if err := n.SQL(t.Context(), "CREATE USER reader", "GRANT SELECT ON polykv, polykv_leases TO reader", "CREATE USER nobody"); err != nil {
		t.Fatal(err)
	}
	cfg := n.config()
	cfg.Username = "reader"
	reader := open(t, cfg)
	now := drivertest.Get(t, reader, "k")
	if res, err := reader.Swap(t.Context(), driver.Swap{Key: "k", Prev: now, ID: 1}); res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrPermission) {
		t.Errorf("a write by a reader: %v, %v", res.Outcome, err)
	}
	f := drivertest.Follow(t.Context(), t, reader, driver.Range{Key: "k"}, nil)
	f.Sees(t, map[string]string{"k": "v"})
	for _, user := range []string{"nobody", "stranger"} {
		cfg.Username = user
		s := open(t, cfg)
		if _, err := s.Get(t.Context(), driver.GetRequest{Key: "k"}); !errors.Is(err, driver.ErrPermission) {
			t.Errorf("a read by %s: %v", user, err)
		}
		if res, err := s.Swap(t.Context(), driver.Swap{Key: "k", ID: 1}); res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrPermission) {
			t.Errorf("a write by %s: %v, %v", user, res.Outcome, err)
		}
	}
}

// Rows of removed keys go when enough was written since, and a session that has not
// come so far ends.
func TestRemovedRowsAreForgotten(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	drivertest.Put(t, s, "k", "v")
	drivertest.Remove(t, s, "k")
	drivertest.Put(t, s, "recent", "v")
	drivertest.Remove(t, s, "recent")
	if err := n.SQL(t.Context(), fmt.Sprintf("UPDATE polykv SET version = %d WHERE key IN ('', 'recent')", 2*keep)); err != nil {
		t.Fatal(err)
	}
	drivertest.Put(t, s, "other", "v")
	if err := n.SQL(t.Context(), "DO $$ BEGIN ASSERT (SELECT count(*) FROM polykv WHERE key IN ('', 'recent', 'other')) = 3 AND (SELECT count(*) FROM polykv) = 3; END $$"); err != nil {
		t.Error(err)
	}
	r := driver.Range{IsPrefix: true}
	_, at, err := s.since(t.Context(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	at.now = keep
	if _, _, err := s.since(t.Context(), r, at); !errors.Is(err, errBehind) {
		t.Errorf("a session that was behind: %v", err)
	}
}

// fillDisk moves the table to a small disk and fills it by a handle.
func (s *server) fillDisk(t *testing.T, h *store) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a small disk needs root")
	}
	disk, err := os.MkdirTemp("", "disk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(disk) })
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=4m"); err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
	t.Cleanup(func() {
		s.Kill()
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	err = errors.Join(s.Own(disk), s.SQL(t.Context(), "CREATE TABLESPACE small LOCATION '"+disk+"'", "ALTER TABLE polykv SET TABLESPACE small"))
	if err != nil {
		t.Fatal(err)
	}
	value := bytes.Repeat([]byte("0123456789abcdef"), 1<<15)
	for i := range value { // so that it can't be compressed
		value[i] = byte(i * i >> 3 * (i >> 9))
	}
	for i, size := 0, len(value); size > 0; i++ { // with ever smaller ones, until nothing fits
		w := driver.Swap{Key: fmt.Sprint("filler", i), Value: value[:size], ID: 1}
		res, refused := h.Swap(drivertest.WithTimeout(t, time.Minute), w)
		if refused == nil {
			continue
		}
		if res.Outcome != driver.NotApplied || !errors.Is(refused, driver.ErrFull) {
			t.Fatalf("a write to a full disk: %v, %v", res.Outcome, refused)
		}
		if e := drivertest.Get(t, h, w.Key); e.Exists() {
			t.Error("it was written all the same")
		}
		size /= 4
	}
}

// A full disk is a refusal that was answered: nothing was written.
func TestFullDisk(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	drivertest.Put(t, s, "k", "v")
	n.fillDisk(t, s)
	if e := drivertest.Get(t, s, "k"); string(e.Value) != "v" {
		t.Errorf("a read from a full disk: %+v", e)
	}
}

// A lease that is over can't be ended while the disk is full. That is in the way of
// nobody who doesn't ask for what is attached to it.
func TestLeaseIsOverOnFullDisk(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	drivertest.Put(t, s, "k", "v")
	g, err := s.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 { // so many that their markers find no room
		drivertest.Swap(t, s, driver.Swap{Key: fmt.Sprint("attached", i), Value: []byte("v"), Lease: g.ID, ID: 1}, driver.Applied)
	}
	n.fillDisk(t, s)
	f := drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k", IsPrefix: true}, nil)
	f.IsSynced(t)
	if err := n.SQL(t.Context(), "UPDATE polykv_leases SET ends = clock_timestamp()"); err != nil {
		t.Fatal(err)
	}
	if err := s.Renew(t.Context(), g.ID); !errors.Is(err, driver.ErrLeaseLost) {
		t.Errorf("Renew of a lease that is over: %v", err)
	}
	if err := n.SQL(t.Context(), "SELECT polykv_expire()"); err == nil || !strings.Contains(err.Error(), "No space left") {
		t.Fatalf("the lease was ended, so the disk isn't full: %v", err)
	}
	if e := drivertest.Get(t, s, "k"); string(e.Value) != "v" {
		t.Errorf("what is not attached: %+v", e)
	}
	if page, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: "attached"}); err != nil || len(page.Entries) > 0 {
		t.Errorf("a listing shows what was attached to a lease that is over: %+v, %v", page, err)
	}
	patiently(t, func() error { // until the listener has tried
		return n.SQL(t.Context(), `DO $$ BEGIN ASSERT EXISTS (SELECT FROM pg_stat_activity
			WHERE state = 'idle' AND query LIKE '%polykv_expire%' AND query_start > (SELECT max(ends) FROM polykv_leases)); END $$`)
	})
	if err := n.SQL(t.Context(), "ALTER TABLE polykv SET TABLESPACE pg_default"); err != nil {
		t.Fatal(err)
	}
	drivertest.Put(t, s, "k2", "v")
	f.Sees(t, map[string]string{"k": "v", "k2": "v"})
}

// Where nobody watches, what was attached to a lease that is over is gone for readers
// and writers all the same; nobody renews it, and the next grant removes it.
func TestLeaseThatIsOver(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	g, err := s.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	w := driver.Swap{Key: "attached", Value: []byte("v"), Lease: g.ID, ID: 1}
	before := drivertest.Swap(t, s, w, driver.Applied).Entry
	if err := n.SQL(t.Context(), "CREATE USER reader", "GRANT SELECT ON polykv, polykv_leases TO reader", "UPDATE polykv_leases SET ends = clock_timestamp()"); err != nil {
		t.Fatal(err)
	}
	if err := s.Renew(t.Context(), g.ID); !errors.Is(err, driver.ErrLeaseLost) {
		t.Errorf("Renew of a lease that is over: %v", err)
	}
	cfg := n.config()
	cfg.Username = "reader"
	reader := open(t, cfg)
	if e := drivertest.Get(t, reader, w.Key); e.Exists() {
		t.Errorf("a read shows what was attached to a lease that is over: %+v", e)
	}
	if page, err := reader.Scan(t.Context(), driver.ScanRequest{}); err != nil || len(page.Entries) > 0 {
		t.Errorf("a listing shows what was attached to a lease that is over: %+v, %v", page, err)
	}
	guards := []driver.Guard{{Key: w.Key, Version: before.Version}}
	if _, err := reader.Get(t.Context(), driver.GetRequest{Key: "other", Guards: guards}); !errors.Is(err, driver.ErrFenced) {
		t.Errorf("a read with a guard that is gone: %v", err)
	}
	drivertest.Swap(t, s, driver.Swap{Key: "other", Guards: guards, ID: 2}, driver.GuardBroken)
	if r := drivertest.Swap(t, s, driver.Swap{Key: w.Key, Prev: before, ID: 3}, driver.Conflict); !r.Known || r.Entry.Exists() {
		t.Errorf("a write over what is gone: %+v", r)
	}
	w.Lease = ""
	drivertest.Swap(t, s, w, driver.Applied)
	if _, err := s.Grant(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if e := drivertest.Get(t, reader, w.Key); !e.Exists() {
		t.Error("what was written since went with the lease")
	}
	if err := n.SQL(t.Context(), "DO $$ BEGIN ASSERT (SELECT count(*) FROM polykv_leases) = 1; END $$"); err != nil {
		t.Error(err)
	}
}
