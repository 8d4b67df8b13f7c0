//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// replica starts a server that copies s, whose commits wait for it from then on.
func (s *server) replica(t testing.TB) *server {
	t.Helper()
	r := &server{servertest.Postgres(t)}
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(r.Run(t.Context(), "pg_basebackup", "-h", host, "-p", port, "-U", "postgres", "-D", r.Data, "-R", "-c", "fast", "--no-sync"),
		r.up(t.Context()), s.SQL(t.Context(), "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"))
	if err != nil {
		t.Fatal(err)
	}
	patiently(t, func() error {
		return s.SQL(t.Context(), "DO $$ BEGIN ASSERT (SELECT sync_state FROM pg_stat_replication) = 'sync'; END $$")
	})
	return r
}

// patiently waits until holds returns nil, for as long as servers may take that
// are killed, promoted and caught up with on a busy machine.
func patiently(t testing.TB, holds func() error) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) { // between two looks
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// counting is several clients that count, and one that watches.
type counting struct {
	t       *testing.T
	stop    atomic.Bool
	writers sync.WaitGroup
	acked   atomic.Int64

	mu      sync.Mutex
	answers map[string]bool // "key=value" of each count that was acknowledged
	unknown map[string]int  // by key
	seen    map[string]int  // by key, the last value that the watch told
}

func newCounting(t *testing.T) *counting {
	return &counting{t: t, answers: map[string]bool{}, unknown: map[string]int{}, seen: map[string]int{}}
}

// client opens a client of the table, which ends with the test.
func (c *counting) client(cfg Config) kv.Client {
	s, err := Open(cfg, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.closed(kv.New(s, codec.String{}, &kv.Options{RetryTimeout: 3 * time.Minute}))
}

// closed has a client closed at the end of the test.
func (c *counting) closed(client kv.Client) kv.Client {
	c.t.Cleanup(func() {
		if err := client.Close(); err != nil {
			c.t.Error(err)
		}
	})
	return client
}

// watch begins to watch by a client.
func (c *counting) watch(client kv.Client) {
	watched := make(chan error, 1)
	go func() { watched <- kv.Watch(context.Background(), client, kv.PrefixRange(""), c.see) }()
	c.t.Cleanup(func() {
		_ = client.Close()
		if err := <-watched; !errors.Is(err, kv.ErrClosed) {
			c.t.Errorf("the watch ended: %v", err)
		}
	})
}

// counted are the keys that all clients count.
var counted = []string{"a", "b", "c"}

// start has a client count until the test ends.
func (c *counting) start(client kv.Client) {
	for _, key := range counted {
		c.writers.Go(func() { c.count(client, key) })
	}
	c.t.Cleanup(func() { c.stop.Store(true); c.writers.Wait() })
}

func (c *counting) count(client kv.Client, key string) {
	for !c.stop.Load() {
		value := 0
		err := client.CAS(context.Background(), key, func(in any) (any, bool, error) {
			text, _ := in.(string)
			n, err := strconv.Atoi("0" + text)
			value = n + 1
			return strconv.Itoa(value), true, err
		})
		c.mu.Lock()
		answer := fmt.Sprintf("%s=%d", key, value)
		switch {
		case errors.Is(err, kv.ErrIndeterminate):
			c.unknown[key]++
		case err != nil:
			c.t.Error(err)
			c.stop.Store(true)
		case c.answers[answer]:
			c.t.Errorf("%s was acknowledged twice: an acknowledged write was lost", answer)
			c.stop.Store(true)
		default:
			c.answers[answer] = true
			c.acked.Add(1)
		}
		c.mu.Unlock()
	}
}

// see takes in what the watch tells: no count may ever fall.
func (c *counting) see(ev kv.Event) bool {
	if ev.Type != kv.Put {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := strconv.Atoi(fmt.Sprint(ev.Value))
	if err != nil || n < c.seen[ev.Key] {
		c.t.Errorf("%q is told to be %v after %d", ev.Key, ev.Value, c.seen[ev.Key])
	}
	c.seen[ev.Key] = n
	return true
}

// further waits until more counts were acknowledged.
func (c *counting) further(n int64) {
	c.t.Helper()
	goal := c.acked.Load() + n
	patiently(c.t, func() error {
		if now := c.acked.Load(); now < goal && !c.stop.Load() {
			return fmt.Errorf("%d counts were acknowledged, not %d", now, goal)
		}
		return nil
	})
}

// The primary dies while clients count, and its replica takes its place: no count
// that was acknowledged is lost or made twice, a watch goes on, and so does a lease.
func TestFailover(t *testing.T) {
	primary := start(t)
	cfg := primary.config()
	drivertest.Put(t, open(t, cfg), "begin", "1")
	replica := primary.replica(t)
	cfg.Servers = []string{replica.Addr(), primary.Addr()} // the first that takes writes
	c := newCounting(t)
	leased, err := kv.Leased(c.client(cfg))
	if err != nil {
		t.Fatal(err)
	}
	lease, err := leased.Grant(t.Context(), 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	err = lease.CAS(t.Context(), "attached", func(any) (any, bool, error) { return "1", false, nil })
	if err != nil {
		t.Fatal(err)
	}
	watching := c.client(cfg)
	c.watch(watching)
	for range 4 {
		c.start(c.client(cfg))
	}
	c.further(50)
	h := open(t, cfg)
	before := drivertest.Get(t, h, "begin")
	primary.Kill()
	if err := replica.SQL(t.Context(), "SELECT pg_promote()"); err != nil {
		t.Fatal(err)
	}
	c.further(50)
	drivertest.Eventually(t, func() error {
		now, err := h.Get(t.Context(), driver.GetRequest{Key: "begin"})
		if err == nil && now.Generation == before.Generation {
			t.Error("the replica's history is that of the primary")
		}
		return err
	})
	c.judge(c.client(cfg))
	if err := lease.Err(); err != nil {
		t.Errorf("the lease was lost: %v", err)
	}
	if v, err := watching.Get(t.Context(), "attached"); err != nil || v != "1" {
		t.Errorf("what is attached to the lease is %v, %v", v, err)
	}
	if err := lease.Close(); err != nil {
		t.Error(err)
	}
}

// judge compares what is there with what was acknowledged, and seen.
func (c *counting) judge(reader kv.Client) {
	c.t.Helper()
	c.stop.Store(true)
	c.writers.Wait()
	for _, key := range counted {
		v, err := reader.Get(c.t.Context(), key)
		if err != nil {
			c.t.Fatal(err)
		}
		n, err := strconv.Atoi(fmt.Sprint(v))
		if err != nil {
			c.t.Fatal(err)
		}
		acked := 0
		for i := 1; i <= n; i++ {
			if c.answers[fmt.Sprintf("%s=%d", key, i)] {
				acked++
			}
		}
		if acked == 0 || n > acked+c.unknown[key] {
			c.t.Errorf("%q is %d after %d counts that were acknowledged and %d of unknown outcome", key, n, acked, c.unknown[key])
		}
		for i := n + 1; i <= n+1000; i++ {
			if c.answers[fmt.Sprintf("%s=%d", key, i)] {
				c.t.Errorf("%q is %d, and %d was acknowledged", key, n, i)
			}
		}
		patiently(c.t, func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.seen[key] != n {
				return fmt.Errorf("the watch has come to %d of %q, which is %d", c.seen[key], key, n)
			}
			return nil
		})
	}
	c.t.Logf("%d counts acknowledged, %v of unknown outcome", c.acked.Load(), c.unknown)
}
