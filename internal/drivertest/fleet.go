package drivertest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testlog"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// requests counts what a client asks of its store, by operation.
type requests struct {
	kv.NopObserver
	mu sync.Mutex
	n  map[string]int
}

func (r *requests) Request(_ context.Context, _, op string, _ time.Duration, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n = map[string]int{}
	}
	r.n[op]++
}

func (r *requests) of(op string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n[op]
}

// followed is a watch and what it has seen.
type followed struct {
	mu          sync.Mutex
	now         map[string]any
	synced      int
	interrupted int
}

func (f *followed) take(ev kv.Event) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch ev.Type {
	case kv.Put:
		f.now[ev.Key] = ev.Value
	case kv.Delete:
		delete(f.now, ev.Key)
	case kv.Synced:
		f.synced++
	case kv.Interrupted:
		f.interrupted++
	}
	return true
}

// until waits for what a watch must come to.
func (f *followed) until(t *testing.T, what string, holds func(f *followed) bool) {
	t.Helper()
	Eventually(t, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !holds(f) {
			return fmt.Errorf("not yet: %s (%d keys, synced %d, interrupted %d)", what, len(f.now), f.synced, f.interrupted)
		}
		return nil
	})
}

// fleet is many watches of one client.
func fleet(t *testing.T, c kv.Client, ranges ...kv.Range) []*followed {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all []*followed
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	for _, r := range ranges {
		f := &followed{now: map[string]any{}}
		all = append(all, f)
		running.Go(func() { _ = kv.Watch(ctx, c, r, f.take) })
	}
	return all
}

func times(n int, r kv.Range) (all []kv.Range) {
	for range n {
		all = append(all, r)
	}
	return all
}

func put(t *testing.T, c kv.Client, key, value string) {
	t.Helper()
	if err := c.CAS(t.Context(), key, func(any) (any, bool, error) { return value, false, nil }); err != nil {
		t.Fatal(err)
	}
}

// The range that WatchesShareASession watches has so many keys, with values of
// so many bytes.
const fleetKeys, fleetValue = 2000, 1 << 10

// WatchesShareASession wants twenty watches of one range to read at most so
// many bytes once, and after a restart of the server so many again.
func WatchesShareASession(t *testing.T, c *testserver.Cluster, open func(addr string, log *slog.Logger) (driver.Store, error), once, again int64) {
	t.Helper()
	proxy := servertest.Proxy(t, c.Endpoints()[0])
	log, asked := &testlog.Log{}, &requests{}
	store, err := open(proxy.Addr(), log.Logger())
	if err != nil {
		t.Fatal(err)
	}
	client := kv.New(store, codec.String{}, &kv.Options{Logger: log.Logger(), Observer: asked})
	defer func() { _ = client.Close() }()
	value := strings.Repeat("v", fleetValue)
	var writers sync.WaitGroup
	for w := range 20 {
		writers.Go(func() {
			for i := range fleetKeys / 20 {
				put(t, client, fmt.Sprintf("r/%04d", w*fleetKeys/20+i), value)
			}
		})
	}
	writers.Wait()

	before := proxy.Stats().ToClient
	all := fleet(t, client, times(20, kv.PrefixRange("r/"))...)
	for _, f := range all {
		f.until(t, "in step", func(f *followed) bool { return f.synced == 1 && len(f.now) == fleetKeys })
	}
	within := fleet(t, client, kv.KeyRange("r/0007"), kv.PrefixRange("r/1"))
	within[0].until(t, "the key", func(f *followed) bool { return f.synced == 1 && len(f.now) == 1 })
	within[1].until(t, "the half", func(f *followed) bool { return f.synced == 1 && len(f.now) == fleetKeys/2 })
	if read := proxy.Stats().ToClient - before; read > once {
		t.Errorf("22 watches read %d bytes of a range that has %d", read, fleetKeys*fleetValue)
	}
	if n := asked.of("locate"); n == 0 || n > 21 {
		t.Errorf("the store was located %d times", n)
	}

	before = proxy.Stats().ToClient
	proxy.Cut()
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	for _, f := range append(all, within...) {
		f.until(t, "in step again", func(f *followed) bool { return f.synced == 2 && f.interrupted == 1 })
	}
	read := proxy.Stats().ToClient - before
	t.Logf("after the restart 22 watches read %d bytes", read)
	if read > again {
		t.Errorf("after the restart 22 watches read %d bytes", read)
	}
	if told := log.String(); strings.Count(told, "\n")-strings.Count(told, "level=DEBUG") > 10 {
		t.Errorf("the restart made more than 10 lines, those for debugging aside:\n%s", told)
	}
	put(t, client, "r/0007", "new")
	for _, f := range append(all, within[0]) {
		f.until(t, "the change", func(f *followed) bool { return f.now["r/0007"] == "new" })
	}
}
