package consul

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

func TestRefusedConnection(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Address = drivertest.Unused(t)
	s := openStore(t, cfg)
	start := time.Now()
	for _, size := range []int{1, 500 << 10} {
		res, err := s.Swap(drivertest.WithTimeout(t, 10*time.Second), driver.Swap{Key: "k", Value: make([]byte, size), ID: 1})
		if res.Outcome != driver.NotApplied || driver.IsPermanent(err) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("swap: %v, %v", res.Outcome, err)
		}
	}
	_, err := s.Get(drivertest.WithTimeout(t, 10*time.Second), driver.GetRequest{Key: "k"})
	if err == nil || driver.IsPermanent(err) || !strings.Contains(err.Error(), cfg.Address) {
		t.Errorf("get: %v", err)
	}
	if _, err = s.Scan(drivertest.WithTimeout(t, 10*time.Second), driver.ScanRequest{}); err == nil || driver.IsPermanent(err) {
		t.Errorf("scan: %v", err)
	}
	if err = s.Watch(drivertest.WithTimeout(t, 10*time.Second), driver.WatchRequest{Range: driver.Range{Key: "k"}}, nil); err == nil || driver.IsPermanent(err) {
		t.Errorf("watch: %v", err)
	}
	if d := time.Since(start); d > cfg.DialTimeout {
		t.Errorf("failing took %v", d)
	}
}

// A write whose answer is lost was applied once. The driver says that it
// doesn't know, doesn't send it again, and recognises it afterwards.
func TestLostAnswerIsUnknown(t *testing.T) {
	direct, p := openShared(t)
	key := p + "k"
	for name, size := range map[string]int{"in a transaction": 10, "by PUT": 500 << 10} {
		for lost, lose := range drivertest.WaysToLose() {
			t.Run(name+", "+lost, func(t *testing.T) {
				proxy := servertest.Proxy(t, single.Get(t).Endpoints()[0])
				cfg := DefaultConfig()
				cfg.Address = proxy.Addr()
				s := openStore(t, cfg)
				prev := drivertest.Get(t, s, key) // there is a connection to reuse now
				w := driver.Swap{Key: key, Prev: prev, Value: make([]byte, size), ID: uint64(time.Now().UnixNano())}
				before := proxy.Stats()
				now := drivertest.LostAnswer(t, direct, s, proxy, w, lose)
				after := proxy.Stats()
				if sent := after.ToServer - before.ToServer; sent > int64(2*size+1000) || after.Accepted != before.Accepted {
					t.Errorf("%d bytes over %d new connections", sent, after.Accepted-before.Accepted)
				}
				if e := drivertest.Get(t, direct, key); e.Version != now.Version || direct.Resolve(w, e) != driver.Applied {
					t.Errorf("%+v, after %+v", e.Meta, now.Meta)
				}
			})
		}
	}
}

// A server that takes connections and says nothing: the write left.
func TestSilentServer(t *testing.T) {
	proxy := servertest.Proxy(t, single.Get(t).Endpoints()[0])
	cfg := DefaultConfig()
	cfg.Address = proxy.Addr()
	s, p := openStore(t, cfg), drivertest.Unique(t)+"/"
	proxy.Hang()
	w := driver.Swap{Key: p + "k", Value: []byte("v"), ID: 1}
	res, err := s.Swap(drivertest.WithTimeout(t, time.Second), w)
	if res.Outcome != driver.Unknown || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", res.Outcome, err)
	}
	if _, err := s.Get(drivertest.WithTimeout(t, time.Second), driver.GetRequest{Key: p + "k"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	drivertest.EndedCtx(t, s, w)
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, func() error { _, err := s.Get(t.Context(), driver.GetRequest{Key: p + "k"}); return err })
}

// While a cluster has no leader, its servers refuse; they don't leave writes
// in doubt.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	c := servertest.Consul(t, testserver.Options{Nodes: 3})
	leader := servertest.Leader(t, c)
	left := (leader + 1) % 3
	cfg := configFor(c)
	cfg.Address, cfg.Consistency = c.Endpoints()[left], stale
	s := openStore(t, cfg)
	e := drivertest.Put(t, s, "k", "1")
	f := follow(t, s, driver.Range{Key: "k"})
	f.Sees(t, map[string]string{"k": "1"})
	drivertest.Eventually(t, func() error { // the server that stays has it too
		if e, err := s.Get(t.Context(), driver.GetRequest{Key: "k", AllowStale: true}); err != nil || !e.Exists() {
			return fmt.Errorf("%+v, %w", e, err)
		}
		return nil
	})
	if err := c.Kill(leader, (leader+2)%3); err != nil {
		t.Fatal(err)
	}
	if err := f.Ends(t); err == nil || driver.IsPermanent(err) {
		t.Errorf("watch ended with %v", err)
	}
	// The server answers after up to 7 s (its rpc_hold_timeout) of waiting for a leader.
	drivertest.Eventually(t, func() error {
		res, err := s.Swap(drivertest.WithTimeout(t, 15*time.Second), driver.Swap{Key: "k", Prev: e, Value: []byte("2"), ID: 1})
		if res.Outcome == driver.Unknown && err != nil {
			return err // the first may have met the leader's end
		}
		if res.Outcome != driver.NotApplied || driver.IsPermanent(err) {
			t.Errorf("swap: %v, %v", res.Outcome, err)
		}
		if !strings.Contains(err.Error(), "No cluster leader") { // at first, the dead leader refuses connections
			return err
		}
		return nil
	})
	if e, err := s.Get(drivertest.WithTimeout(t, time.Minute), driver.GetRequest{Key: "k", AllowStale: true}); err != nil || string(e.Value) != "1" {
		t.Errorf("stale get: %v, %v", e, err)
	}
	if page, err := s.Scan(drivertest.WithTimeout(t, time.Minute), driver.ScanRequest{AllowStale: true}); err != nil || len(page.Entries) != 1 {
		t.Errorf("stale scan: %v, %v", page, err)
	}
	if err := c.Restart(leader, (leader+2)%3); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	drivertest.Swap(t, s, driver.Swap{Key: "k", Prev: e, Value: []byte("3")}, driver.Applied)
}

// A server's end ends a watch session; after the restart another one works.
// A restored snapshot shows in a watch that goes on, without waiting for a
// change, and begins another history for who can tell.
func TestRestartAndRestore(t *testing.T) {
	t.Parallel()
	c := servertest.Consul(t, testserver.Options{})
	s := openStore(t, configFor(c))
	kept := drivertest.Put(t, s, "a", "1")
	var f, g *follower
	for _, end := range []func(...int) error{c.Kill, c.Stop} {
		f, g = follow(t, s, driver.Range{IsPrefix: true}), follow(t, s, driver.Range{Key: "b"})
		f.Sees(t, map[string]string{"a": "1"})
		g.IsSynced(t)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		for _, f := range []*follower{f, g} {
			if err := f.Ends(t); err == nil || driver.IsPermanent(err) {
				t.Fatalf("ended with %v", err)
			}
		}
		drivertest.Eventually(t, func() error { // once the end of its connection is known
			res, err := s.Swap(drivertest.WithTimeout(t, time.Second), driver.Swap{Key: "a", Prev: kept, Value: []byte("x"), ID: 1})
			if res.Outcome != driver.NotApplied {
				return fmt.Errorf("without a server: %v, %w", res.Outcome, err)
			}
			return nil
		})
		if err := c.Restart(); err != nil {
			t.Fatal(err)
		}
		servertest.WaitReady(t, c)
		if e := drivertest.Get(t, s, "a"); e.Generation != kept.Generation || e.Version != kept.Version {
			t.Errorf("a restart is not another history: %+v, %+v", e, kept)
		}
	}

	raw := rawClient(t, c)
	backup := save(t, raw)
	late := drivertest.Put(t, s, "a", "2")
	drivertest.Put(t, s, "b", "2")
	f, g = follow(t, s, driver.Range{IsPrefix: true}), follow(t, s, driver.Range{Key: "b"})
	f.Sees(t, map[string]string{"a": "2", "b": "2"})
	g.Sees(t, map[string]string{"b": "2"})
	// At once as a rule; a query that comes after the restore waits its time out.
	if err := raw.Snapshot().Restore(nil, bytes.NewReader(backup)); err != nil {
		t.Fatal(err)
	}
	f.Sees(t, map[string]string{"a": "1"})
	g.Sees(t, map[string]string{})
	if gen := drivertest.Get(t, s, "b").Generation; gen == kept.Generation {
		t.Errorf("the generation is still %d", gen)
	}
	drivertest.Swap(t, s, driver.Swap{Key: "a", Prev: late, Value: []byte("x")}, driver.Conflict)
	if now := drivertest.Put(t, s, "a", "3"); now.Version <= late.Version {
		t.Errorf("version %d was handed out again: %+v", late.Version, now)
	}
	f.Sees(t, map[string]string{"a": "3"})
}

func save(t testing.TB, c *api.Client) []byte {
	t.Helper()
	r, _, err := c.Snapshot().Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A server that is stopped and says nothing is given up after the wait.
func TestWatchNoticesASilentServer(t *testing.T) {
	t.Parallel()
	c := servertest.Consul(t, testserver.Options{})
	cfg := configFor(c)
	cfg.WaitTime = time.Second
	s := openStore(t, cfg)
	var followers []*follower
	for _, r := range []driver.Range{{IsPrefix: true}, {Key: "k"}} {
		f := follow(t, s, r)
		f.IsSynced(t)
		followers = append(followers, f)
	}
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	followers = append(followers, follow(t, s, driver.Range{Key: "late"}))
	for _, f := range followers {
		if err := f.Ends(t); err == nil || driver.IsPermanent(err) || errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}
	res, err := s.Swap(drivertest.WithTimeout(t, time.Second), driver.Swap{Key: "a", Value: []byte("1"), ID: 1})
	if res.Outcome != driver.Unknown || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("swap on a stopped server: %v, %v", res.Outcome, err)
	}
	if err := c.Continue(); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, func() error {
		_, err := s.Get(drivertest.WithTimeout(t, time.Second), driver.GetRequest{Key: "a"})
		return err
	})
	drivertest.Put(t, s, "b", "2")
}

func TestAfterClose(t *testing.T) {
	s, err := Open(configFor(single.Get(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Get(t, s, drivertest.Unique(t))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	drivertest.AfterClose(t, s)
}
