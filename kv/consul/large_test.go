package consul

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

// fill writes n keys, of which every one has a value of size bytes.
func fill(t testing.TB, s *store, prefix string, n, size int) {
	t.Helper()
	const perTxn = 64 // Consul's limit
	value := []byte(strings.Repeat("v", size))
	for from := 0; from < n; from += perTxn {
		var ops api.TxnOps
		for i := from; i < min(from+perTxn, n); i++ {
			ops = append(ops, &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVSet, Key: numbered(prefix, i), Value: value}})
		}
		if ok, _, _, err := s.txn.Txn(ops, (&api.QueryOptions{}).WithContext(t.Context())); err != nil || !ok {
			t.Fatal(ok, err)
		}
	}
}

func numbered(prefix string, i int) string { return fmt.Sprintf("%s%05d", prefix, i) }

// cpu returns the processor time that this process and another have used.
func cpu(t testing.TB, pid int) (own, other time.Duration) {
	t.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	own = time.Duration(use.Utime.Nano() + use.Stime.Nano())
	if runtime.GOOS != "linux" {
		return own, 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):])) // from the third on
	for _, f := range fields[12:14] {
		ticks, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		other += time.Duration(ticks) * time.Second / 100
	}
	return own, other
}

// 10,000 keys, one of them changing 100 times a second: what the watch adds to
// the work of both sides stays bounded, and final states arrive within a
// second.
func TestWatchOfTenThousandKeys(t *testing.T) {
	const (
		keys = 10_000
		rate = 100
		span = 3 * time.Second
	)
	s, p := openShared(t)
	pid := single.Get(t).Pid(0)
	fill(t, s, p, keys, 100)
	round := 0
	change := func() (last string) {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		round++
		e := drivertest.Get(t, s, numbered(p, 0))
		for i := range int(span / (time.Second / rate)) {
			<-tick.C
			last = fmt.Sprintf("%d-%d", round, i)
			e = drivertest.Swap(t, s, driver.Swap{Key: e.Key, Prev: e, Value: []byte(last)}, driver.Applied).Entry
		}
		return last
	}
	own0, server0 := cpu(t, pid)
	change()
	own1, server1 := cpu(t, pid)
	f := follow(t, s, driver.Range{Key: p, IsPrefix: true})
	f.IsSynced(t)
	puts := f.Count(driver.Put)
	if puts != keys {
		t.Errorf("%d keys in the snapshot", puts)
	}
	own2, server2 := cpu(t, pid)
	last := change()
	written := time.Now()
	drivertest.Eventually(t, func() error {
		got, wrong := f.Now(numbered(p, 0))
		if got != last {
			return fmt.Errorf("sees %s, want %s", got, last)
		}
		return wrong
	})
	delay := time.Since(written)
	own3, server3 := cpu(t, pid)
	part := func(with, without time.Duration) float64 { return float64(with-without) / float64(span) * 100 }
	t.Logf("the watch took %.0f%% of a core here and %.0f%% in Consul, for %d of %d changes and %d requests; the last was seen after %v",
		part(own3-own2, own1-own0), part(server3-server2, server1-server0), f.Count(driver.Put)-puts, span/(time.Second/rate), f.requests.Load(), delay)
	if raceDetector {
		return // it slows this side down tenfold
	}
	if delay > 2*time.Second { // with room for a busy machine
		t.Errorf("the last change was seen after %v", delay)
	}
	for side, share := range map[string]float64{"here": part(own3-own2, own1-own0), "in Consul": part(server3-server2, server1-server0)} {
		if share > 40 {
			t.Errorf("the watch took %.0f%% of a core %s", share, side)
		}
	}
}
