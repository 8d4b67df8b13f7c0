package etcd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// A cluster that lost its data has another history, though its id is the
// same: what was remembered is void, and watches start again.
func TestClusterSetBack(t *testing.T) {
	dir := t.TempDir() + "/etcd"
	c := servertest.Etcd(t, testserver.Options{NoFsync: true, Dir: dir})
	s := open(t, configFor(c))
	var before driver.Entry
	for range 5 {
		before = drivertest.Put(t, s, "k", "old")
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Glob(filepath.Join(dir, "node*", "data"))
	if err != nil || len(data) != 1 {
		t.Fatal(data, err)
	}
	if err := os.RemoveAll(data[0]); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	var now driver.Entry
	drivertest.Eventually(t, func() (err error) {
		now, err = s.Get(t.Context(), driver.GetRequest{Key: "k"})
		return err
	})
	if now.Exists() || now.Generation == before.Generation {
		t.Fatalf("before %+v, now %+v", before, now)
	}
	if e := drivertest.Put(t, s, "k", "new"); e.Generation != now.Generation {
		t.Fatalf("%+v after %+v", e, now)
	}
	f := follow(t, s, driver.Range{Key: "k"})
	f.Sees(t, map[string]string{"k": "new"})
	// What another call notices ends running watches.
	m := s.history.Mark()
	if _, err := s.history.Observe(m, kit.Answer{Cluster: 1, Index: 1}); err != nil {
		t.Fatal(err)
	}
	if err := f.Ends(t); !errors.Is(err, kit.ErrHistoryChanged) || driver.IsPermanent(err) {
		t.Fatalf("ended with %v", err)
	}
}
