package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// follow follows a session whose events come in the order of the store.
func follow(t testing.TB, s *store, r driver.Range) *drivertest.Follower {
	t.Helper()
	return drivertest.Follow(context.Background(), t, s, r, func(before []driver.Event, ev driver.Event) error {
		synced := slices.ContainsFunc(before, func(e driver.Event) bool { return e.Type == driver.Synced })
		if n := len(before); ev.Type == driver.Put && synced && before[n-1].Entry.Version > ev.Entry.Version {
			return fmt.Errorf("version %d after %d", ev.Entry.Version, before[n-1].Entry.Version)
		}
		return nil
	})
}

func TestWatchKey(t *testing.T) {
	s, p := openShared(t)
	key := p + "k"
	f := follow(t, s, driver.Range{Key: key})
	f.Sees(t, map[string]string{})
	drivertest.Put(t, s, key+"2", "not this one")
	first := drivertest.Put(t, s, key, "1")
	f.Sees(t, map[string]string{key: "1"})
	events := f.Events()
	if e := events[len(events)-1].Entry; e.Version != first.Version || *e.Meta.(*meta) != *first.Meta.(*meta) || e.Generation != first.Generation {
		t.Errorf("event %+v, written %+v", e, first)
	}
	drivertest.Swap(t, s, driver.Swap{Key: key, Prev: first, Remove: true}, driver.Applied)
	f.Sees(t, map[string]string{})
	f.Stop()
	if err := f.Ends(t); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	late := follow(t, s, driver.Range{Key: key + "2"})
	late.Sees(t, map[string]string{key + "2": "not this one"})
}

// Nothing that happens while the snapshot is read, page by page, or between
// it and the stream is missed, and nothing older comes after it.
func TestWatchHasNoGap(t *testing.T) {
	cfg := configFor(single.Get(t))
	cfg.ScanPageSize = 3
	s, p := open(t, cfg), drivertest.Unique(t)+"/"
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("%s%d-%d", p, w, i%10)
				e := drivertest.Get(t, s, key)
				drivertest.Swap(t, s, driver.Swap{Key: key, Prev: e, Value: []byte(strconv.Itoa(i)), Remove: e.Exists() && i%7 == 0}, driver.Applied)
			}
		})
	}
	var followers []*drivertest.Follower
	for range 20 {
		f := follow(t, s, driver.Range{Key: p, IsPrefix: true})
		followers = append(followers, f)
		f.IsSynced(t)
	}
	stop()
	writers.Wait()
	want := map[string]string{}
	entries, _ := scanAll(t, s, driver.ScanRequest{Prefix: p}, nil)
	for _, e := range entries {
		want[e.Key] = string(e.Value)
	}
	for _, f := range followers {
		f.Sees(t, want)
	}
}

// A watch that asks for revisions that are gone ends; it doesn't skip them.
func TestWatchEndsOnCompaction(t *testing.T) {
	s, p := openShared(t)
	drivertest.Put(t, s, p+"k", "1")
	var f *drivertest.Follower
	// The snapshot's Synced event is emitted before the stream is asked for.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := s.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: p, IsPrefix: true}}, func(ev driver.Event) {
		if ev.Type == driver.Synced {
			drivertest.Put(t, s, p+"k", "2")
			drivertest.Put(t, s, p+"k", "3")
			compact(t, drivertest.Put(t, s, p+"k", "4"))
		}
	})
	if !errors.Is(err, rpctypes.ErrCompacted) || driver.IsPermanent(err) {
		t.Fatalf("ended with %v", err)
	}
	// Compaction of what was delivered does not disturb.
	f = follow(t, s, driver.Range{Key: p, IsPrefix: true})
	f.Sees(t, map[string]string{p + "k": "4"})
	compact(t, drivertest.Put(t, s, p+"k", "5"))
	drivertest.Put(t, s, p+"k", "6")
	f.Sees(t, map[string]string{p + "k": "6"})
}

// A lost connection ends the session; after a restart another one works.
func TestWatchEndsWithItsConnection(t *testing.T) {
	c := servertest.Etcd(t, testserver.Options{})
	s := open(t, configFor(c))
	kept := drivertest.Put(t, s, "a", "1")
	f := follow(t, s, driver.Range{IsPrefix: true})
	f.Sees(t, map[string]string{"a": "1"})
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := f.Ends(t); err == nil || driver.IsPermanent(err) {
		t.Fatalf("ended with %v", err)
	}
	if err := s.Watch(drivertest.WithTimeout(t, time.Minute), driver.WatchRequest{Range: driver.Range{Key: "a"}}, func(driver.Event) {}); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a session without a server: %v", err)
	}
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	var again *drivertest.Follower
	drivertest.Eventually(t, func() error {
		_, err := s.Get(t.Context(), driver.GetRequest{Key: "a"})
		return err
	})
	again = follow(t, s, driver.Range{IsPrefix: true})
	again.Sees(t, map[string]string{"a": "1"})
	if e := drivertest.Get(t, s, "a"); e.Generation != kept.Generation || e.Version != kept.Version {
		t.Errorf("a restart is not another history: %+v, %+v", e, kept)
	}
}

// A server that stops for five seconds and goes on costs no event.
func TestWatchSurvivesAPause(t *testing.T) {
	t.Parallel()
	c := servertest.Etcd(t, testserver.Options{NoFsync: true})
	s := open(t, configFor(c))
	f := follow(t, s, driver.Range{IsPrefix: true})
	f.Sees(t, map[string]string{})
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	var err error
	for deadline := time.Now().Add(time.Minute); err == nil && time.Now().Before(deadline); { // a signal takes a moment
		_, err = s.Get(drivertest.WithTimeout(t, time.Second), driver.GetRequest{Key: "a"})
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("get from a stopped server: %v", err)
	}
	res, err := s.Swap(drivertest.WithTimeout(t, time.Second), driver.Swap{Key: "a", Value: []byte("1"), ID: 1})
	if res.Outcome != driver.Unknown || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("swap on a stopped server: %v, %v", res.Outcome, err)
	}
	time.Sleep(time.Until(start.Add(5 * time.Second))) // the length of the pause, not evidence
	if err := c.Continue(); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, func() error {
		_, err := s.Get(drivertest.WithTimeout(t, time.Second), driver.GetRequest{Key: "a"})
		return err
	})
	drivertest.Put(t, s, "b", "2")
	select {
	case <-f.Done(): // a ping fell into the pause; the engine would start another
		f = follow(t, s, driver.Range{IsPrefix: true})
	default:
	}
	want := map[string]string{"b": "2"}
	if e := drivertest.Get(t, s, "a"); e.Exists() {
		want["a"] = "1"
	}
	f.Sees(t, want)
}

// A connection that is open but silent is given up.
func TestWatchNoticesASilentServer(t *testing.T) {
	t.Parallel()
	c := servertest.Etcd(t, testserver.Options{NoFsync: true})
	cfg := configFor(c)
	cfg.KeepAliveTimeout = time.Second
	s := open(t, cfg)
	f := follow(t, s, driver.Range{IsPrefix: true})
	f.Sees(t, map[string]string{})
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	err := f.Ends(t)
	if err == nil || driver.IsPermanent(err) {
		t.Errorf("ended with %v", err)
	}
}

// metric returns what the server's metrics say of one, labels included.
func metric(t testing.TB, url, name string) int {
	t.Helper()
	resp, err := http.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut("\n"+string(body), "\n"+name+" ")
	if !ok {
		t.Fatalf("the server has no metric %s", name)
	}
	n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// All watches share a stream, whatever metadata their callers' contexts carry.
func TestWatchesShareAStream(t *testing.T) {
	const n = 500
	s, p := openShared(t)
	url := single.Get(t).URLs()[0]
	const streams = "etcd_debugging_mvcc_watch_stream_total"
	drivertest.Eventually(t, func() error { // until the server has noticed that other tests' watches ended
		if n := metric(t, url, streams); n != 0 {
			return fmt.Errorf("there are %d streams", n)
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	var watches, synced sync.WaitGroup
	for i := range n {
		synced.Add(1)
		ctx := metadata.AppendToOutgoingContext(ctx, "request", strconv.Itoa(i))
		watches.Go(func() {
			err := s.Watch(ctx, driver.WatchRequest{Range: driver.Range{Key: p + strconv.Itoa(i)}}, func(ev driver.Event) {
				if ev.Type != driver.Synced {
					synced.Done()
				} else {
					drivertest.Put(t, s, p+strconv.Itoa(i), "v") // arrives over the stream
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	synced.Wait()
	if got := metric(t, url, streams); got != 1 {
		t.Errorf("%d watches use %d streams", n, got)
	}
	cancel()
	watches.Wait()
}
