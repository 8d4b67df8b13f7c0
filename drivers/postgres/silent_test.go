//go:build linux

package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// A line that stands still once a client has logged in takes the place of a connection
// for a while only, and keeps nobody from closing.
func TestLineStandsStill(t *testing.T) {
	n := start(t)
	proxy := servertest.Proxy(t, n.Addr())
	cfg := n.config()
	cfg.Servers = []string{proxy.Addr()}
	h, err := Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := h.(*store)
	drivertest.Put(t, s, "k", "v")
	f := drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil)
	f.IsSynced(t)
	conn, err := pgx.ConnectConfig(context.WithValue(t.Context(), connects{}, true), s.pool.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	proxy.Hang()
	if _, err := s.Get(drivertest.WithTimeout(t, 100*time.Millisecond), driver.GetRequest{Key: "k"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a read: %v", err)
	}
	ended := make(chan error)
	go func() { ended <- s.met(context.Background(), conn) }()
	ends := func(what string, limit time.Duration) error {
		t.Helper()
		select {
		case err := <-ended:
			return err
		case <-time.After(limit):
			t.Fatalf("%s takes longer than %v", what, limit)
			return nil
		}
	}
	if err := ends("a look at the table", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a look at the table: %v", err)
	}
	f.Stop()
	<-f.Done()
	go func() { ended <- s.Close() }()
	if err := ends("Close", 10*time.Second); err != nil {
		t.Error(err)
	}
}

// A commit that waits for a replica in vain is told as done by nobody, neither when its
// caller gives up nor by what others read.
func TestCommitWaitsForItsReplica(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	drivertest.Put(t, s, "k", "1")
	replica := n.replica(t)
	replica.Kill()
	h, err := Open(n.config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	client := kv.New(h, codec.String{}, &kv.Options{AttemptTimeout: 500 * time.Millisecond, RetryTimeout: time.Second})
	defer client.Close()
	err = client.CAS(t.Context(), "k", func(any) (any, bool, error) { return "2", false, nil })
	if !errors.Is(err, kv.ErrIndeterminate) {
		t.Errorf("a write that no replica has: %v", err)
	}
	if e := drivertest.Get(t, s, "k"); string(e.Value) != "1" {
		t.Errorf("it can be seen: %+v", e)
	}
	r, err := s.Swap(drivertest.WithTimeout(t, time.Minute), driver.Swap{Key: "other", ID: 1})
	if r.Outcome != driver.NotApplied || err == nil || driver.IsPermanent(err) {
		t.Errorf("who waits for its turn meanwhile: %v, %v", r.Outcome, err)
	}
	if err := replica.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, func() error {
		if e := drivertest.Get(t, s, "k"); string(e.Value) != "2" {
			return errors.New("it can't be seen, though the replica has it")
		}
		return nil
	})
}

// A table that is emptied or set back beneath those who use it is another one for all of
// them: nobody takes it for a table without keys, and watches begin again.
func TestTableIsSetBack(t *testing.T) {
	n := start(t)
	s := open(t, n.config())
	before := drivertest.Put(t, s, "k", "1")
	sql := func(statements ...string) {
		t.Helper()
		if err := n.SQL(t.Context(), statements...); err != nil {
			t.Fatal(err)
		}
	}
	sql("CREATE TABLE saved AS SELECT * FROM polykv")
	drivertest.Put(t, s, "k", "2")
	f := drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil)
	f.Sees(t, map[string]string{"k": "2"})
	sql("BEGIN", "TRUNCATE polykv", "INSERT INTO polykv SELECT * FROM saved", "COMMIT")
	if err := f.Ends(t); err == nil || t.Context().Err() != nil {
		t.Errorf("the session ended: %v", err)
	}
	now := drivertest.Get(t, s, "k")
	if now.Version != before.Version || now.Generation == before.Generation {
		t.Errorf("%+v, was %+v", now, before)
	}
	f = drivertest.Follow(t.Context(), t, s, driver.Range{Key: "k"}, nil)
	f.Sees(t, map[string]string{"k": "1"})

	reader := open(t, n.config())
	drivertest.Get(t, reader, "k")
	sql("TRUNCATE polykv")
	r, swapErr := s.Swap(t.Context(), driver.Swap{Key: "k", ID: 1})
	_, getErr := reader.Get(t.Context(), driver.GetRequest{Key: "k"})
	for _, err := range []error{swapErr, getErr} {
		if err == nil || driver.IsPermanent(err) {
			t.Errorf("of a table without its counter: %v", err)
		}
	}
	if r.Outcome != driver.NotApplied {
		t.Errorf("a write to a table without its counter: %v", r.Outcome)
	}
	if err := f.Ends(t); err == nil || t.Context().Err() != nil {
		t.Errorf("the session ended: %v", err)
	}
}
