package etcd

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// single is one server without TLS or users that most tests share, each under
// a prefix of its own.
var single = servertest.SharedEtcd(testserver.Options{NoFsync: true})

func TestMain(m *testing.M) { goleak.VerifyTestMain(servertest.Main(m, single, secured, mutual)) }

// open returns a store that ends with the test.
func open(t testing.TB, cfg Config) *store {
	t.Helper()
	s, err := Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.(*store)
}

func configFor(c *testserver.Cluster) Config {
	cfg := DefaultConfig()
	cfg.Endpoints = c.Endpoints()
	return cfg
}

// unique returns a name that begins with the test's and that no other test,
// and no repetition of this one, has.
func unique(t testing.TB) string { return fmt.Sprintf("%s-%d", t.Name(), counter.Add(1)) }

var counter atomic.Int64

// openShared returns a store on the shared server, and a prefix for the test.
func openShared(t testing.TB) (s *store, prefix string) {
	t.Helper()
	return open(t, configFor(single.Get(t))), unique(t) + "/"
}

func withTimeout(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func get(t testing.TB, s *store, key string) driver.Entry {
	t.Helper()
	e, err := s.Get(withTimeout(t, 10*time.Second), driver.GetRequest{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// swap makes one swap that must have the given outcome.
func swap(t testing.TB, s *store, w driver.Swap, want driver.Outcome) driver.Result {
	t.Helper()
	w.ID = 1
	res, err := s.Swap(withTimeout(t, 10*time.Second), w)
	if res.Outcome != want {
		t.Fatalf("swap of %q: outcome %v (%v), want %v", w.Key, res.Outcome, err, want)
	}
	if want != driver.NotApplied && want != driver.Unknown && err != nil {
		t.Fatalf("swap of %q: %v with error %v", w.Key, res.Outcome, err)
	}
	return res
}

// put writes value over whatever the key holds, and returns the new entry.
func put(t testing.TB, s *store, key, value string) driver.Entry {
	t.Helper()
	return swap(t, s, driver.Swap{Key: key, Prev: get(t, s, key), Value: []byte(value)}, driver.Applied).Entry
}

func rangeOf(key string) *pb.RangeRequest { return &pb.RangeRequest{Key: []byte(key)} }
