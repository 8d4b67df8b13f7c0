package etcd

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
)

// single is one server without TLS or users that most tests share, each under
// a prefix of its own.
var single = servertest.SharedEtcd(testserver.Options{NoFsync: true})

func TestMain(m *testing.M) {
	lookUpThere()
	goleak.VerifyTestMain(servertest.Main(m, single, secured, mutual))
}

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

// openShared returns a store on the shared server, and a prefix for the test.
func openShared(t testing.TB) (s *store, prefix string) {
	t.Helper()
	return open(t, configFor(single.Get(t))), drivertest.Unique(t) + "/"
}

func rangeOf(key string) *pb.RangeRequest { return &pb.RangeRequest{Key: []byte(key)} }
