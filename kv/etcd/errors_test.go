package etcd

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

func TestRefusedConnection(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Endpoints = []string{drivertest.Unused(t)}
	s := open(t, cfg)
	start := time.Now()
	res, err := s.Swap(drivertest.WithTimeout(t, 10*time.Second), driver.Swap{Key: "k", Value: []byte("v"), ID: 1})
	if res.Outcome != driver.NotApplied || driver.IsPermanent(err) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("swap: %v, %v", res.Outcome, err)
	}
	_, err = s.Get(drivertest.WithTimeout(t, 10*time.Second), driver.GetRequest{Key: "k"})
	if err == nil || !strings.Contains(err.Error(), cfg.Endpoints[0]) {
		t.Errorf("get: %v", err)
	}
	_, err = s.Scan(drivertest.WithTimeout(t, 10*time.Second), driver.ScanRequest{})
	if err == nil || driver.IsPermanent(err) {
		t.Errorf("scan: %v", err)
	}
	if d := time.Since(start); d > cfg.DialTimeout {
		t.Errorf("failing took %v", d)
	}
}

// An endpoint that takes connections and says nothing.
func TestSilentEndpoint(t *testing.T) {
	proxy := servertest.Proxy(t, single.Get(t).Endpoints()[0])
	proxy.Hang()
	cfg := DefaultConfig()
	cfg.Endpoints = []string{proxy.Addr()}
	cfg.DialTimeout = 500 * time.Millisecond
	s := open(t, cfg)
	w := driver.Swap{Key: drivertest.Unique(t), Value: []byte("v"), ID: 1}
	start := time.Now()
	res, err := s.Swap(drivertest.WithTimeout(t, 2*time.Minute), w)
	if res.Outcome != driver.NotApplied || err == nil || time.Since(start) > time.Minute {
		t.Errorf("until the dial timeout: %v, %v after %v", res.Outcome, err, time.Since(start))
	}
	res, err = s.Swap(drivertest.WithTimeout(t, 10*time.Millisecond), w)
	if res.Outcome != driver.NotApplied || err == nil {
		t.Errorf("until the deadline: %v, %v", res.Outcome, err)
	}
	drivertest.EndedCtx(t, s, w)
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, func() error {
		e, err := s.Get(t.Context(), driver.GetRequest{Key: w.Key})
		if err == nil && e.Exists() {
			t.Fatal("what was not applied is there")
		}
		return err
	})
}

// A write whose answer is lost was applied, and the driver must not claim
// otherwise, nor send it again.
func TestLostAnswerIsUnknown(t *testing.T) {
	direct, p := openShared(t)
	key := p + "k"
	prev := drivertest.Put(t, direct, key, "0")
	for name, lose := range drivertest.WaysToLose() {
		t.Run(name, func(t *testing.T) {
			proxy := servertest.Proxy(t, single.Get(t).Endpoints()[0])
			cfg := DefaultConfig()
			cfg.Endpoints = []string{proxy.Addr()}
			s := open(t, cfg)
			drivertest.Get(t, s, key)
			drivertest.LostAnswer(t, direct, s, proxy, driver.Swap{Key: key, Prev: prev, Value: []byte(name), ID: 1}, lose)
			now := drivertest.Get(t, direct, key)
			if now.Meta.(*meta).writes != prev.Meta.(*meta).writes+1 {
				t.Fatalf("written %d times", now.Meta.(*meta).writes-prev.Meta.(*meta).writes)
			}
			prev = now
		})
	}
}

// A member without a leader refuses at once; it doesn't leave writes in doubt.
// Nothing is sent twice.
func TestNoLeader(t *testing.T) {
	t.Parallel()
	c := servertest.Etcd(t, testserver.Options{Nodes: 3, NoFsync: true})
	leader := servertest.Leader(t, c)
	left := (leader + 1) % 3
	cfg := configFor(c)
	cfg.Endpoints = c.Endpoints()[left : left+1]
	cfg.SerializableReads = true
	s := open(t, cfg)
	e := drivertest.Put(t, s, "k", "1")
	f := follow(t, s, driver.Range{Key: "k"})
	f.Sees(t, map[string]string{"k": "1"})
	if err := c.Kill(leader, (leader+2)%3); err != nil {
		t.Fatal(err)
	}
	if err := f.Ends(t); !errors.Is(err, rpctypes.ErrNoLeader) || driver.IsPermanent(err) {
		t.Errorf("watch ended with %v", err)
	}
	refused := func(method string) int {
		return metric(t, c.URLs()[left], `grpc_server_handled_total{grpc_code="Unavailable",grpc_method="`+method+`",grpc_service="etcdserverpb.KV",grpc_type="unary"}`)
	}
	gets, swaps := refused("Range"), refused("Txn")
	res, err := s.Swap(drivertest.WithTimeout(t, time.Minute), driver.Swap{Key: "k", Prev: e, Value: []byte("2"), ID: 1})
	if res.Outcome != driver.NotApplied || !errors.Is(err, rpctypes.ErrNoLeader) || driver.IsPermanent(err) {
		t.Errorf("swap: %v, %v", res.Outcome, err)
	}
	if _, err := s.Get(drivertest.WithTimeout(t, time.Minute), driver.GetRequest{Key: "k"}); !errors.Is(err, rpctypes.ErrNoLeader) {
		t.Errorf("get: %v", err)
	}
	if gets, swaps = refused("Range")-gets, refused("Txn")-swaps; gets != 1 || swaps != 1 {
		t.Errorf("the server got %d gets and %d swaps", gets, swaps)
	}
	stale, err := s.Get(drivertest.WithTimeout(t, time.Minute), driver.GetRequest{Key: "k", AllowStale: true})
	if err != nil || string(stale.Value) != "1" {
		t.Errorf("serializable get: %v, %v", stale, err)
	}
	page, err := s.Scan(drivertest.WithTimeout(t, time.Minute), driver.ScanRequest{AllowStale: true})
	if err != nil || len(page.Entries) != 1 {
		t.Errorf("serializable scan: %v, %v", page, err)
	}
	if err := c.Restart(leader, (leader+2)%3); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	drivertest.Swap(t, s, driver.Swap{Key: "k", Prev: e, Value: []byte("3")}, driver.Applied)
}

// Every member of a cluster is used, and one that is down is not missed.
func TestThreeEndpoints(t *testing.T) {
	c := servertest.Etcd(t, testserver.Options{Nodes: 3, NoFsync: true})
	s := open(t, configFor(c))
	drivertest.Put(t, s, "k", "1")
	if err := c.Kill((servertest.Leader(t, c) + 1) % 3); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	drivertest.Eventually(t, func() error { // until its connections are known to be gone
		_, err := s.Get(t.Context(), driver.GetRequest{Key: "k"})
		return err
	})
	for range 9 {
		drivertest.Put(t, s, "k", "2")
	}
}

func TestAfterClose(t *testing.T) {
	opened, err := Open(configFor(single.Get(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := opened.(*store)
	drivertest.Get(t, s, "k")
	f := follow(t, s, driver.Range{IsPrefix: true})
	f.IsSynced(t)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Ends(t); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("watch: %v", err)
	}
	drivertest.AfterClose(t, s)
}
