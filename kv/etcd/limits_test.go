package etcd

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// A value of exactly the stated limit is taken whatever its key, and the
// limit is not much below what the server would take.
func TestLimitsAreTheServers(t *testing.T) {
	const maxRequest = 128 << 10
	c := servertest.Etcd(t, testserver.Options{NoFsync: true, Args: []string{"--max-request-bytes=131072"}})
	cfg := configFor(c)
	cfg.MaxRequestBytes = maxRequest
	limitsHold(t, open(t, cfg))
}

func TestDefaultLimitsAreTheServers(t *testing.T) {
	s, _ := openShared(t)
	limitsHold(t, s)
}

func limitsHold(t *testing.T, s *store) {
	t.Helper()
	lim := s.Limits()
	if lim.Key != 512 || lim.Value <= lim.GuardedValue || lim.Value < s.cfg.MaxRequestBytes-3<<10 {
		t.Fatalf("limits %+v", lim)
	}
	name := strings.Repeat(t.Name(), 100)
	key, fence := (name + "k")[len(name)+1-lim.Key:], (name + "f")[len(name)+1-lim.Key:]
	guard := drivertest.Put(t, s, fence, "1")
	for _, g := range [][]driver.Guard{nil, slices.Repeat([]driver.Guard{{Key: fence, Version: guard.Version}}, lim.Guards)} {
		limit := lim.Value
		if g != nil {
			limit = lim.GuardedValue
		}
		w := driver.Swap{Key: key, Guards: g, Prev: drivertest.Get(t, s, key), Value: make([]byte, limit)}
		drivertest.Swap(t, s, w, driver.Applied)
		// The user name and the auth revision, which this server has none of,
		// and the shorter form of small numbers.
		reserve := maxCommonName + 60 + 20*len(g)
		w.Prev, w.Value = drivertest.Get(t, s, key), make([]byte, limit+reserve)
		w.ID = 1
		res, err := s.Swap(t.Context(), w)
		if res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrTooLarge) || !errors.Is(err, rpctypes.ErrRequestTooLarge) {
			t.Errorf("value of %d bytes: %v, %v", len(w.Value), res.Outcome, err)
		}
		if e := drivertest.Get(t, s, key); len(e.Value) != limit {
			t.Errorf("a refused value was written: %d bytes", len(e.Value))
		}
		// gRPC itself refuses what is half a megabyte over.
		w.Value = make([]byte, s.cfg.MaxRequestBytes+1<<20)
		res, err = s.Swap(t.Context(), w)
		if res.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrTooLarge) {
			t.Errorf("value of %d bytes: %v, %v", len(w.Value), res.Outcome, err)
		}
	}
}
