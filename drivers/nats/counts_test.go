package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// client returns a client over a handle, which ends with the test.
func client(t testing.TB, s driver.Store) kv.Client {
	c := kv.New(s, codec.String{}, &kv.Options{RetryTimeout: 3 * time.Minute})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// counts is what clients count together while servers and stores change.
type counts struct {
	t       *testing.T
	stop    atomic.Bool
	writers sync.WaitGroup

	mu      sync.Mutex
	acked   map[string]int
	unknown map[string]int
	seen    map[string]int // what a watch told last
}

func newCounts(t *testing.T, writers ...kv.Client) *counts {
	c := &counts{t: t, acked: map[string]int{}, unknown: map[string]int{}, seen: map[string]int{}}
	for _, w := range writers {
		for _, key := range []string{"a", "b", "c"} {
			c.writers.Go(func() { c.count(w, key) })
		}
	}
	t.Cleanup(func() { c.stop.Store(true); c.writers.Wait() })
	return c
}

func (c *counts) count(w kv.Client, key string) {
	for !c.stop.Load() {
		err := w.CAS(context.Background(), key, func(in any) (any, bool, error) {
			text, _ := in.(string)
			n, err := strconv.Atoi("0" + text)
			return strconv.Itoa(n + 1), true, err
		})
		c.mu.Lock()
		switch {
		case err == nil:
			c.acked[key]++
		case errors.Is(err, kv.ErrIndeterminate):
			c.unknown[key]++
		default:
			c.t.Error(err)
			c.stop.Store(true)
		}
		c.mu.Unlock()
	}
}

// watch follows the counts by a client, which it closes at the end of the test. No
// count may ever fall.
func (c *counts) watch(client kv.Client) {
	ended := make(chan error, 1)
	go func() {
		ended <- kv.Watch(context.Background(), client, kv.PrefixRange(""), func(ev kv.Event) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			if ev.Type != kv.Put {
				return true
			}
			n, err := strconv.Atoi(fmt.Sprint(ev.Value))
			if err != nil || n < c.seen[ev.Key] {
				c.t.Errorf("%q is told to be %v after %d", ev.Key, ev.Value, c.seen[ev.Key])
			}
			c.seen[ev.Key] = n
			return true
		})
	}()
	c.t.Cleanup(func() {
		_ = client.Close()
		if err := <-ended; !errors.Is(err, kv.ErrClosed) {
			c.t.Errorf("the watch ended: %v", err)
		}
	})
}

// further waits until each key was counted ten times more.
func (c *counts) further() {
	c.t.Helper()
	c.mu.Lock()
	before := maps.Clone(c.acked)
	c.mu.Unlock()
	drivertest.Eventually(c.t, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, key := range []string{"a", "b", "c"} {
			if c.acked[key] < before[key]+10 && !c.stop.Load() {
				return fmt.Errorf("%q was counted %d times, and %d before", key, c.acked[key], before[key])
			}
		}
		return nil
	})
}

// judge compares the sums with what was acknowledged, and with what a watch saw.
func (c *counts) judge(reader kv.Client) {
	c.t.Helper()
	c.stop.Store(true)
	c.writers.Wait()
	for key, acked := range c.acked {
		v, err := reader.Get(c.t.Context(), key)
		if err != nil {
			c.t.Fatal(err)
		}
		n, err := strconv.Atoi(fmt.Sprint(v))
		if err != nil || n < acked || n > acked+c.unknown[key] {
			c.t.Errorf("%q is %v after %d counts that were acknowledged and %d of unknown outcome", key, v, acked, c.unknown[key])
		}
		drivertest.Eventually(c.t, func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.seen[key] != n {
				return fmt.Errorf("the watch has come to %d of %q, which is %d", c.seen[key], key, n)
			}
			return nil
		})
	}
	c.t.Logf("%v acknowledged, %v of unknown outcome", c.acked, c.unknown)
}

// Clients count and watch while the stream loses its leader, and while all servers
// are stopped and started: nothing acknowledged is lost, nothing is counted twice.
func TestCountsOutlastServers(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	cfg := c.config("polykv")
	var clients []kv.Client
	for range 3 {
		s, err := Open(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client(t, s))
	}
	ctx := drivertest.WithTimeout(t, 5*time.Minute)
	n := newCounts(t, clients[:2]...)
	n.watch(clients[2])
	n.further()
	for range 2 {
		if err := c.changeLeader(ctx, cfg.Bucket); err != nil {
			t.Fatal(err)
		}
		n.further()
	}
	for _, node := range c {
		node.down()
	}
	for _, node := range c {
		if err := node.up(); err != nil {
			t.Fatal(err)
		}
	}
	n.further()
	s, err := Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	n.judge(client(t, s))
}

// Who waits for his turn gives up while there is time for an answer, with nothing
// sent.
func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{batch: make(chan struct{}, 1)}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		free, err := s.turn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.turn(ctx); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			t.Errorf("while another has it: %v, %v", err, ctx.Err())
		}
		free()
		if free, err = s.turn(ctx); err != nil {
			t.Fatal(err)
		}
		free()
	})
}
