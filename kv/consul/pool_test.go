package consul

import (
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// 64 goroutines make one connection each and go on using it; a restart of the
// server or a closed store leaves none behind.
func TestConnectionsAreReused(t *testing.T) {
	const parallel, rounds = 64, 20
	proxy := servertest.Proxy(t, single.Get(t).Endpoints()[0])
	cfg := DefaultConfig()
	cfg.Address = proxy.Addr()
	s, p := openStore(t, cfg), drivertest.Unique(t)+"/"
	var all sync.WaitGroup
	for i := range parallel {
		all.Go(func() {
			key := p + strconv.Itoa(i)
			e := driver.Entry{}
			for n := range rounds {
				res, err := s.Swap(t.Context(), driver.Swap{Key: key, Prev: e, Value: []byte("v"), ID: uint64(n + 1)})
				if err != nil || res.Outcome != driver.Applied {
					t.Error(res.Outcome, err)
				}
				if e, err = s.Get(t.Context(), driver.GetRequest{Key: key}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	// Now and then one dials while another becomes idle.
	if n := proxy.Stats().Accepted; n > 2*parallel {
		t.Errorf("%d connections for %d goroutines", n, parallel)
	}
	// Connections that the server has closed are noticed: a write that meets
	// one is made on another.
	for range 20 {
		before := proxy.Stats().Accepted
		proxy.Cut()
		if err := proxy.Heal(); err != nil {
			t.Fatal(err)
		}
		res, err := s.Swap(t.Context(), driver.Swap{Key: p + "0", Prev: drivertest.Get(t, s, p+"0"), Value: []byte(strconv.Itoa(int(before))), ID: 99})
		if err != nil || res.Outcome != driver.Applied {
			t.Error(res.Outcome, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), driver.GetRequest{Key: "k"}); !errors.Is(err, driver.ErrClosed) {
		t.Error(err)
	}
}

// A write on a connection that broke unnoticed is never sent again by itself
// once bytes of it may have arrived.
func TestBrokenConnections(t *testing.T) {
	direct, p := openShared(t)
	proxy := servertest.Proxy(t, single.Get(t).Endpoints()[0])
	cfg := DefaultConfig()
	cfg.Address = proxy.Addr()
	s := openStore(t, cfg)
	unknown := 0
	for i := range 200 {
		key := p + strconv.Itoa(i)
		e := drivertest.Get(t, direct, key)
		_, _ = s.Get(t.Context(), driver.GetRequest{Key: key})
		done := make(chan struct{})
		go func() {
			defer close(done)
			proxy.Cut()
			if err := proxy.Heal(); err != nil {
				t.Error(err)
			}
		}()
		w := driver.Swap{Key: key, Prev: e, Value: []byte("v"), ID: uint64(i + 1)}
		res, err := s.Swap(t.Context(), w)
		<-done
		now := drivertest.Get(t, direct, key)
		switch {
		case res.Outcome == driver.Applied && direct.Resolve(w, now) == driver.Applied:
		case res.Outcome == driver.NotApplied && !now.Exists() && err != nil:
		case res.Outcome == driver.Unknown && err != nil:
			unknown++
		default:
			t.Errorf("%v, %v, and now %+v", res.Outcome, err, now)
		}
	}
	t.Logf("%d of 200 writes were left in doubt", unknown)
}
