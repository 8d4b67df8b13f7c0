package drivertest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// SlowLine reads a prefix whole that takes longer than an attempt may, since the
// line is thin: page by page, and by a watch. open opens a handle through an
// address.
func SlowLine(t *testing.T, c *testserver.Cluster, open func(addr string) (driver.Store, error)) {
	t.Helper()
	keys, size, rate, attempt := 600, 10_000, 2_000_000, 2*time.Second
	if Soak() {
		keys, attempt = 1500, 3*time.Second
	}
	proxy := servertest.Proxy(t, c.Endpoints()[0])
	store, err := open(proxy.Addr())
	if err != nil {
		t.Fatal(err)
	}
	client := kv.New(store, codec.String{}, &kv.Options{AttemptTimeout: attempt})
	defer func() { _ = client.Close() }()
	prefix, value := Unique(t)+"/", strings.Repeat("v", size)
	var writers sync.WaitGroup
	for w := range 10 {
		writers.Go(func() {
			for i := w; i < keys; i += 10 {
				put(t, client, fmt.Sprintf("%s%04d", prefix, i), value)
			}
		})
	}
	writers.Wait()

	proxy.Throttle(rate)
	began, n := time.Now(), 0
	for e, err := range kv.Entries(t.Context(), client, prefix) {
		if err != nil || e.Value != value {
			t.Fatalf("after %d entries: %q, %v", n, e.Key, err)
		}
		n++
	}
	if n != keys {
		t.Errorf("%d entries, want %d", n, keys)
	}
	if took := time.Since(began); took < attempt {
		t.Errorf("the line carried it in %v, within an attempt", took)
	}
	watch := fleet(t, client, kv.PrefixRange(prefix))[0]
	watch.until(t, "in step", func(f *followed) bool { return f.synced == 1 && len(f.now) == keys && f.interrupted == 0 })
}
