package consul_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
)

// TestEntriesOfAGigabyte reads 974 MiB in 20,000 values, which neither the client
// nor the agent puts together in its memory. The agent is set up as
// docs/operations.md has it for prefixes of that size.
func TestEntriesOfAGigabyte(t *testing.T) {
	if !drivertest.Soak() {
		t.Skip("takes minutes: a soak test")
	}
	const keys, size = 20_000, 974 << 20 / 20_000
	t.Setenv("GOGC", "50") // for the agent, which inherits it
	c := servertest.Consul(t, testserver.Options{})
	cfg := consul.DefaultConfig()
	cfg.Address = c.Endpoints()[0]
	s, err := consul.Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := kv.New(s, codec.String{}, &kv.Options{RememberEntries: -1})
	defer func() { _ = client.Close() }()
	value := strings.Repeat("v", size)
	began := time.Now()
	var writers sync.WaitGroup
	for w := range 16 {
		writers.Go(func() {
			for i := w; i < keys && !t.Failed(); i += 16 {
				err := client.CAS(t.Context(), fmt.Sprintf("p/%05d", i), func(any) (any, bool, error) { return value, true, nil })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	wrote := time.Since(began)
	before := resident(t, c.Pid(0))
	most, own := peaks(t, c.Pid(0), func() {
		n := 0
		for e, err := range kv.Entries(t.Context(), client, "p/") {
			if err != nil || e.Value != value {
				t.Fatalf("after %d entries: %v", n, err)
			}
			n++
		}
		if n != keys {
			t.Errorf("%d entries", n)
		}
	})
	t.Logf("written in %v, read in %v; agent from %d to %d MiB, client %d MiB", wrote, time.Since(began)-wrote, before>>20, most>>20, own>>20)
	if most > keys*size+1<<30 || own > 128<<20 {
		t.Errorf("the agent took %d MiB, the client %d MiB", most>>20, own>>20)
	}
}

// peaks samples the memory of a process, and our own heap, while f runs.
func peaks(t *testing.T, pid int, f func()) (agent, own int64) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			agent, own = max(agent, resident(t, pid)), max(own, int64(m.HeapInuse))
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	defer func() { close(stop); <-done }()
	f()
	return
}

// resident returns how many bytes of its own a process has in memory, 0 where
// /proc isn't. The agent's log, a file that it maps, is the system's to drop.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64)
	return n << 10
}
