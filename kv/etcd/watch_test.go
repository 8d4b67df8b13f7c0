package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
)

// follower runs one watch session and keeps the picture it paints.
type follower struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when Watch returned

	mu      sync.Mutex
	events  []driver.Event
	picture map[string]string
	synced  int
	wrong   error // an event out of order
	err     error // of Watch
}

func follow(t testing.TB, s *store, r driver.Range) *follower {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{cancel: cancel, done: make(chan struct{}), picture: map[string]string{}}
	go func() {
		defer close(f.done)
		err := s.Watch(ctx, r, f.take)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = err
	}()
	t.Cleanup(func() { f.stop(); <-f.done })
	return f
}

func (f *follower) stop() { f.cancel() }

func (f *follower) take(ev driver.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, ev)
	switch ev.Type {
	case driver.Put:
		if n := len(f.events); f.synced > 0 && n > 1 && f.events[n-2].Entry.Version > ev.Entry.Version {
			f.wrong = fmt.Errorf("version %d after %d", ev.Entry.Version, f.events[n-2].Entry.Version)
		}
		f.picture[ev.Entry.Key] = string(ev.Entry.Value)
	case driver.Delete:
		delete(f.picture, ev.Entry.Key)
	case driver.Synced:
		f.synced++
	}
}

// sees waits until the picture is want.
func (f *follower) sees(t testing.TB, want map[string]string) {
	t.Helper()
	eventually(t, func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.synced == 1 && maps.Equal(f.picture, want) {
			return f.wrong
		}
		return fmt.Errorf("sees %v (synced %d, session ended: %t), want %v", f.picture, f.synced, f.err != nil, want)
	})
}

// ends waits for the session's error.
func (f *follower) ends(t testing.TB, within time.Duration) error {
	t.Helper()
	select {
	case <-f.done:
		return f.err
	case <-time.After(within):
		t.Fatalf("the watch still runs after %v", within)
		return nil
	}
}

// eventually polls until check returns nil, for at most 20 seconds.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func TestWatchKey(t *testing.T) {
	s, p := openShared(t)
	key := p + "k"
	f := follow(t, s, driver.Range{Key: key})
	f.sees(t, map[string]string{})
	put(t, s, key+"2", "not this one")
	first := put(t, s, key, "1")
	f.sees(t, map[string]string{key: "1"})
	f.mu.Lock()
	if e := f.events[len(f.events)-1].Entry; e.Version != first.Version || *e.Meta.(*meta) != *first.Meta.(*meta) || e.Generation != first.Generation {
		t.Errorf("event %+v, written %+v", e, first)
	}
	f.mu.Unlock()
	swap(t, s, driver.Swap{Key: key, Prev: first, Remove: true}, driver.Applied)
	f.sees(t, map[string]string{})
	f.stop()
	if err := f.ends(t, time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	late := follow(t, s, driver.Range{Key: key + "2"})
	late.sees(t, map[string]string{key + "2": "not this one"})
}

// Nothing that happens while the snapshot is read, page by page, or between
// it and the stream is missed, and nothing older comes after it.
func TestWatchHasNoGap(t *testing.T) {
	cfg := configFor(single.Get(t))
	cfg.ScanPageSize = 3
	s, p := open(t, cfg), unique(t)+"/"
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("%s%d-%d", p, w, i%10)
				e := get(t, s, key)
				swap(t, s, driver.Swap{Key: key, Prev: e, Value: []byte(strconv.Itoa(i)), Remove: e.Exists() && i%7 == 0}, driver.Applied)
			}
		})
	}
	var followers []*follower
	for range 20 {
		f := follow(t, s, driver.Range{Key: p, IsPrefix: true})
		followers = append(followers, f)
		eventually(t, func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.synced == 0 {
				return errors.New("not synced")
			}
			return nil
		})
	}
	stop()
	writers.Wait()
	want := map[string]string{}
	entries, _ := scanAll(t, s, driver.ScanRequest{Prefix: p}, nil)
	for _, e := range entries {
		want[e.Key] = string(e.Value)
	}
	for _, f := range followers {
		f.sees(t, want)
	}
}

// A watch that asks for revisions that are gone ends; it doesn't skip them.
func TestWatchEndsOnCompaction(t *testing.T) {
	s, p := openShared(t)
	put(t, s, p+"k", "1")
	var f *follower
	// The snapshot's Synced event is emitted before the stream is asked for.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := s.Watch(ctx, driver.Range{Key: p, IsPrefix: true}, func(ev driver.Event) {
		if ev.Type == driver.Synced {
			put(t, s, p+"k", "2")
			put(t, s, p+"k", "3")
			compact(t, put(t, s, p+"k", "4"))
		}
	})
	if !errors.Is(err, rpctypes.ErrCompacted) || driver.IsPermanent(err) {
		t.Fatalf("ended with %v", err)
	}
	// Compaction of what was delivered does not disturb.
	f = follow(t, s, driver.Range{Key: p, IsPrefix: true})
	f.sees(t, map[string]string{p + "k": "4"})
	compact(t, put(t, s, p+"k", "5"))
	put(t, s, p+"k", "6")
	f.sees(t, map[string]string{p + "k": "6"})
}

// A lost connection ends the session; after a restart another one works.
func TestWatchEndsWithItsConnection(t *testing.T) {
	c := servertest.Etcd(t, testserver.Options{})
	s := open(t, configFor(c))
	kept := put(t, s, "a", "1")
	f := follow(t, s, driver.Range{IsPrefix: true})
	f.sees(t, map[string]string{"a": "1"})
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := f.ends(t, 5*time.Second); err == nil || driver.IsPermanent(err) {
		t.Fatalf("ended with %v", err)
	}
	if err := s.Watch(withTimeout(t, time.Second), driver.Range{Key: "a"}, func(driver.Event) {}); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a session without a server: %v", err)
	}
	if err := c.Restart(); err != nil {
		t.Fatal(err)
	}
	servertest.WaitReady(t, c)
	var again *follower
	eventually(t, func() error {
		_, err := s.Get(t.Context(), driver.GetRequest{Key: "a"})
		return err
	})
	again = follow(t, s, driver.Range{IsPrefix: true})
	again.sees(t, map[string]string{"a": "1"})
	if e := get(t, s, "a"); e.Generation != kept.Generation || e.Version != kept.Version {
		t.Errorf("a restart is not another history: %+v, %+v", e, kept)
	}
}

// A server that stops for five seconds and goes on costs no event.
func TestWatchSurvivesAPause(t *testing.T) {
	t.Parallel()
	c := servertest.Etcd(t, testserver.Options{NoFsync: true})
	s := open(t, configFor(c))
	f := follow(t, s, driver.Range{IsPrefix: true})
	f.sees(t, map[string]string{})
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err := s.Get(withTimeout(t, 300*time.Millisecond), driver.GetRequest{Key: "a"})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 2*time.Second {
		t.Errorf("get from a stopped server: %v after %v", err, time.Since(start))
	}
	res, err := s.Swap(withTimeout(t, 300*time.Millisecond), driver.Swap{Key: "a", Value: []byte("1"), ID: 1})
	if res.Outcome != driver.Unknown || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("swap on a stopped server: %v, %v", res.Outcome, err)
	}
	time.Sleep(time.Until(start.Add(5 * time.Second))) // the length of the pause, not evidence
	if err := c.Continue(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		_, err := s.Get(withTimeout(t, time.Second), driver.GetRequest{Key: "a"})
		return err
	})
	put(t, s, "b", "2")
	select {
	case <-f.done: // a ping fell into the pause; the engine would start another
		f = follow(t, s, driver.Range{IsPrefix: true})
	default:
	}
	want := map[string]string{"b": "2"}
	if e := get(t, s, "a"); e.Exists() {
		want["a"] = "1"
	}
	f.sees(t, want)
}

// A connection that is open but silent is given up.
func TestWatchNoticesASilentServer(t *testing.T) {
	t.Parallel()
	c := servertest.Etcd(t, testserver.Options{NoFsync: true})
	cfg := configFor(c)
	cfg.KeepAliveTimeout = time.Second
	s := open(t, cfg)
	f := follow(t, s, driver.Range{IsPrefix: true})
	f.sees(t, map[string]string{})
	if err := c.Pause(); err != nil {
		t.Fatal(err)
	}
	err := f.ends(t, cfg.KeepAliveTime+cfg.KeepAliveTimeout+3*time.Second)
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
	before := metric(t, url, "etcd_debugging_mvcc_watch_stream_total")
	ctx, cancel := context.WithCancel(t.Context())
	var watches, synced sync.WaitGroup
	for i := range n {
		synced.Add(1)
		ctx := metadata.AppendToOutgoingContext(ctx, "request", strconv.Itoa(i))
		watches.Go(func() {
			err := s.Watch(ctx, driver.Range{Key: p + strconv.Itoa(i)}, func(ev driver.Event) {
				if ev.Type != driver.Synced {
					synced.Done()
				} else {
					put(t, s, p+strconv.Itoa(i), "v") // arrives over the stream
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	synced.Wait()
	if got := metric(t, url, "etcd_debugging_mvcc_watch_stream_total") - before; got != 1 {
		t.Errorf("%d watches use %d streams", n, got)
	}
	cancel()
	watches.Wait()
}
