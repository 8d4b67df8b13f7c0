package memberlist

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// BenchmarkCluster is what 30 whole nodes on loopback cost at their defaults:
// they share a Map, each watches it, and 150 changes a second are made in turn
// on each of them. One operation is one CAS. It reports the processor time of
// all nodes together, that of the same nodes at rest, and how long a change
// takes to reach a callback. To see where the time goes:
//
//	go test ./kv/memberlist -run '^$' -bench Cluster/100 -benchtime 1500x -cpuprofile cpu.out
func BenchmarkCluster(b *testing.B) {
	for _, entries := range []int{100, 5000} {
		b.Run(fmt.Sprint(entries), func(b *testing.B) { benchmarkCluster(b, 30, entries) })
	}
}

func benchmarkCluster(b *testing.B, size, entries int) {
	values := MapCodec[string, int64]{Value: codec.JSON[int64]{}}
	clients := benchClients(b, size, values)
	fill := func(m *Map[string, int64]) {
		for i := range entries {
			m.Set(entryName(i), 0)
		}
	}
	change := func(node int, f func(m *Map[string, int64])) {
		err := clients[node].CAS(b.Context(), "table", func(in any) (any, bool, error) {
			m, _ := in.(*Map[string, int64])
			if m == nil {
				m = NewMap[string, int64]()
			}
			f(m)
			return m, false, nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	change(0, fill)
	seen := watchArrivals(b, clients)
	soon(b, "all nodes have the table", func() bool {
		for _, c := range clients {
			v, _ := c.Get(b.Context(), "table")
			if m, ok := v.(*Map[string, int64]); !ok || m.Len() != entries {
				return false
			}
		}
		return true
	})
	idle := idleShare(2*time.Second, 8*time.Second) // first they settle
	seen.reset()
	before := cpuTime()
	tick := time.NewTicker(time.Second / 150)
	defer tick.Stop()
	b.ResetTimer()
	for i := range b.N {
		<-tick.C
		n := int64(i + 1)
		seen.expect(entryName(i%entries), n)
		change(i%size, func(m *Map[string, int64]) { m.Set(entryName(i%entries), n) })
	}
	cost := cpuTime() - before
	b.StopTimer()
	time.Sleep(time.Second) // what has not arrived by now is missing
	b.ReportMetric(float64(cost)/1e6/float64(b.N), "cpu-ms/CAS")
	b.ReportMetric(100*idle, "idle-%")
	seen.report(b, size*b.N)
}

func entryName(i int) string { return fmt.Sprintf("entry-%04d", i) }

// benchClients starts nodes with the defaults and opens a client on each.
func benchClients(b *testing.B, size int, values codec.Codec) (clients []kv.Client) {
	b.Helper()
	var nodes []*Node
	for i := range size {
		cfg := DefaultConfig()
		cfg.NodeName = fmt.Sprintf("node-%d", i)
		cfg.BindAddress, cfg.BindPort = "127.0.0.1", 0
		if i > 0 {
			cfg.Join = []string{nodes[0].Address()}
		}
		n := startNode(b, cfg, nil, values)
		nodes, clients = append(nodes, n), append(clients, clientOf(b, n, values))
	}
	for _, n := range nodes {
		awaitPeerCount(b, n, size-1)
	}
	return clients
}

// cpuTime returns the processor time that this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // only for a wrong argument
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// idleShare returns the share of a core that the process uses during some time,
// after a rest.
func idleShare(rest, during time.Duration) float64 {
	time.Sleep(rest)
	before := cpuTime()
	time.Sleep(during)
	return float64(cpuTime()-before) / float64(during)
}

// arrivals follows what becomes of changes on all nodes: of each entry, the
// newest change that a node lacks.
type arrivals struct {
	mu      sync.Mutex
	pending []map[string]awaited // by node
	took    []time.Duration
}

type awaited struct {
	n    int64
	made time.Time
}

func (a *arrivals) expect(entry string, n int64) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, node := range a.pending {
		node[entry] = awaited{n, now}
	}
}

func (a *arrivals) look(node int, m *Map[string, int64]) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for entry, w := range a.pending[node] {
		if n, _ := m.Get(entry); n >= w.n {
			a.took = append(a.took, now.Sub(w.made))
			delete(a.pending[node], entry)
		}
	}
}

func (a *arrivals) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.took = a.took[:0]
}

func (a *arrivals) report(b *testing.B, expected int) {
	b.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.Sort(a.took)
	ms := func(q float64) float64 { return float64(a.took[int(q*float64(len(a.took)-1))]) / 1e6 }
	if len(a.took) > 0 {
		b.ReportMetric(ms(0.5), "p50-ms")
		b.ReportMetric(ms(0.99), "p99-ms")
	}
	b.ReportMetric(float64(expected-len(a.took)), "missing")
}

// watchArrivals watches the table on every node until the benchmark ends.
func watchArrivals(b *testing.B, clients []kv.Client) *arrivals {
	b.Helper()
	a := &arrivals{pending: make([]map[string]awaited, len(clients))}
	var watches sync.WaitGroup
	for i, c := range clients {
		a.pending[i] = map[string]awaited{}
		watches.Go(func() {
			c.WatchKey(b.Context(), "table", func(v any) bool {
				if m, ok := v.(*Map[string, int64]); ok {
					a.look(i, m)
				}
				return true
			})
		})
	}
	b.Cleanup(watches.Wait)
	return a
}
