package etcd

import (
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

func use(t *testing.T, client *clientv3.Client) *store {
	t.Helper()
	s, err := Use(client, DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.(*store)
}

// A store on the program's own client does what another does, with the
// client's user, and leaves it as it was.
func TestUse(t *testing.T) {
	client, err := secured.Get(t).EtcdClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	s, p := use(t, client), drivertest.Unique(t)+"/"
	f := follow(t, s, driver.Range{Key: p, IsPrefix: true})
	f.IsSynced(t)
	e := drivertest.Put(t, s, p+"k", "1")
	drivertest.Put(t, s, p+"k", "2")
	f.Sees(t, map[string]string{p + "k": "2"})
	drivertest.Swap(t, s, driver.Swap{Key: p + "k", Prev: e, Value: []byte("3")}, driver.Conflict)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Ends(t); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("the watch ended with %v", err)
	}
	if _, err := s.Get(t.Context(), driver.GetRequest{Key: p + "k"}); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if resp, err := client.Get(t.Context(), p+"k"); err != nil || len(resp.Kvs) != 1 {
		t.Errorf("the program's client: %v, %v", resp, err)
	}
	if _, err := Use(nil, DefaultConfig()); err == nil {
		t.Error("no client is taken")
	}
}

// A restart is another epoch, on whosever connection it is noticed.
func TestUseNoticesARestart(t *testing.T) {
	t.Parallel()
	c := servertest.Etcd(t, testserver.Options{NoFsync: true})
	client, err := c.EtcdClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	used, own := use(t, client), open(t, configFor(c))
	for _, s := range []*store{used, own} {
		drivertest.Put(t, s, "k", "1")
		drivertest.Get(t, s, "k")
	}
	before := []uint64{used.Epoch(), own.Epoch()}
	drivertest.Put(t, used, "k", "2")
	drivertest.Put(t, own, "k", "3")
	if used.Epoch() != before[0] || own.Epoch() != before[1] {
		t.Errorf("epochs %d and %d after %d, with nothing lost", used.Epoch(), own.Epoch(), before)
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	for i, s := range []*store{used, own} {
		drivertest.Eventually(t, func() error {
			_, err := s.Get(drivertest.WithTimeout(t, 5*time.Second), driver.GetRequest{Key: "k"})
			return err
		})
		if s.Epoch() == before[i] {
			t.Errorf("store %d: still epoch %d", i, before[i])
		}
	}
}
