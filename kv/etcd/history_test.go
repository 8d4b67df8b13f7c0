package etcd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

func TestHistory(t *testing.T) {
	h := newHistory()
	see := func(m mark, cluster uint64, rev int64, linearizable bool) (uint64, error) {
		return h.observe(header{cluster, rev}, m, linearizable)
	}
	expect := func(what string, want uint64) func(uint64, error) {
		return func(gen uint64, err error) {
			t.Helper()
			if gen != want || (err != nil) != (want == 0) {
				t.Errorf("%s: generation %d, %v; want %d", what, gen, err, want)
			}
		}
	}
	early := h.mark()
	expect("first answer", 1)(see(early, 7, 100, true))
	expect("late answer to an early call", 1)(see(early, 7, 90, true))
	now := h.mark()
	expect("stale read", 1)(see(now, 7, 90, false))
	expect("same revision", 1)(see(now, 7, 100, true))
	expect("revision fell", 2)(see(now, 7, 50, true))
	expect("call from before that", 0)(see(now, 7, 120, true))
	select {
	case <-now.ended:
	default:
		t.Error("nobody was told")
	}
	now = h.mark()
	expect("set back for good", 2)(see(now, 7, 51, true))
	expect("another cluster", 3)(see(h.mark(), 8, 60, false))
	expect("and on", 3)(see(h.mark(), 8, 60, true))
}

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
	m := s.history.mark()
	if _, err := s.history.observe(header{1, 1}, m, true); err != nil {
		t.Fatal(err)
	}
	if err := f.Ends(t, time.Second); !errors.Is(err, errHistoryChanged) || driver.IsPermanent(err) {
		t.Fatalf("ended with %v", err)
	}
}
