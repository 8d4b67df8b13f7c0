package drivertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv/driver"
)

// EmptyValue writes an empty value, which exists.
func EmptyValue(t testing.TB, s driver.Store, key string) {
	t.Helper()
	Swap(t, s, driver.Swap{Key: key}, driver.Applied)
	if e := Get(t, s, key); !e.Exists() || e.Value == nil || len(e.Value) != 0 {
		t.Fatalf("%+v", e)
	}
}

// AfterClose calls a handle that was closed.
func AfterClose(t testing.TB, s driver.Store) {
	t.Helper()
	if _, err := s.Get(t.Context(), driver.GetRequest{Key: "k"}); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("get: %v", err)
	}
	if _, err := s.Scan(t.Context(), driver.ScanRequest{}); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("scan: %v", err)
	}
	if err := s.Watch(t.Context(), driver.WatchRequest{Range: driver.Range{Key: "k"}}, nil); !errors.Is(err, driver.ErrClosed) {
		t.Errorf("watch: %v", err)
	}
	if res, err := s.Swap(t.Context(), driver.Swap{Key: "k", ID: 1}); !errors.Is(err, driver.ErrClosed) || res.Outcome != driver.NotApplied {
		t.Errorf("swap: %v, %v", res.Outcome, err)
	}
}

// LostAnswer makes a swap through a proxy that withholds its answer, which s
// must not take for anything but unknown. direct is a handle past the proxy,
// and lose is called once the swap has arrived. It returns what is there then.
func LostAnswer(t testing.TB, direct, s driver.Store, proxy *testserver.Proxy, w driver.Swap, lose func(*testserver.Proxy)) driver.Entry {
	t.Helper()
	proxy.SwallowResponses()
	arrived := make(chan driver.Entry)
	go func() {
		var now driver.Entry
		Eventually(t, func() error {
			if now = Get(t, direct, w.Key); now.Version == w.Prev.Version {
				return errors.New("not written yet")
			}
			return nil
		})
		lose(proxy)
		arrived <- now
	}()
	res, err := s.Swap(WithTimeout(t, 2*time.Second), w)
	now := <-arrived
	if res.Outcome != driver.Unknown || err == nil || driver.IsPermanent(err) {
		t.Fatalf("%v, %v", res.Outcome, err)
	}
	return now
}

// WaysToLose are the ways in which LostAnswer's answer may be lost.
func WaysToLose() map[string]func(*testserver.Proxy) {
	return map[string]func(*testserver.Proxy){
		"the answer is late":      func(*testserver.Proxy) {},
		"the connection goes too": func(proxy *testserver.Proxy) { proxy.Cut() },
	}
}

// EndedCtx wants a swap whose ctx is over to be sent nowhere.
func EndedCtx(t testing.TB, s driver.Store, w driver.Swap) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if res, err := s.Swap(ctx, w); res.Outcome != driver.NotApplied || !errors.Is(err, context.Canceled) {
		t.Errorf("a ctx that is done: %v, %v", res.Outcome, err)
	}
}
