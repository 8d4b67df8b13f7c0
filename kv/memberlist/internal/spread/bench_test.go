package spread

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// timed is a store that tells when it has taken an update in.
type timed struct {
	state.Replica
	applied atomic.Pointer[func(u state.Update)]
}

func (r *timed) Apply(u state.Update) state.Applied {
	a := r.Replica.Apply(u)
	if f := r.applied.Load(); f != nil {
		(*f)(u)
	}
	return a
}

// cpuTime returns the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// deliveries collects how long after its write each update arrived.
type deliveries struct {
	mu    sync.Mutex
	begun map[string]time.Time // by entry
	took  []time.Duration
}

func (d *deliveries) begin(entry string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun[entry] = time.Now()
}

func (d *deliveries) arrived(u state.Update) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if begun, ok := d.begun[string(u.Value)]; ok {
		d.took = append(d.took, now.Sub(begun))
	}
}

func (d *deliveries) report(b *testing.B, expected int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.took)
	if n := len(d.took); n > 0 {
		ms := func(t time.Duration) float64 { return float64(t) / 1e6 }
		b.ReportMetric(ms(d.took[n/2]), "p50-ms")
		b.ReportMetric(ms(d.took[n*99/100]), "p99-ms")
		b.ReportMetric(ms(d.took[n-1]), "max-ms")
	}
	b.ReportMetric(float64(expected-len(d.took)), "missing")
}

// benchCluster starts nodes on loopback whose stores are timed.
func benchCluster(b *testing.B, nodes int, fabric *network.Fabric) (*cluster, *deliveries) {
	d := &deliveries{begun: map[string]time.Time{}}
	c := newCluster(b, fabric)
	f := d.arrived
	c.wrap = func(r state.Replica) state.Replica {
		t := &timed{Replica: r}
		t.applied.Store(&f)
		return t
	}
	c.grow(nodes)
	return c, d
}

// BenchmarkDelivery makes a change on one of 30 nodes on loopback 20 times a
// second and measures how long it takes to reach each of the others.
func BenchmarkDelivery(b *testing.B) {
	c, d := benchCluster(b, 30, nil)
	b.ResetTimer()
	for i := range b.N {
		value := fmt.Sprintf("value %d", i)
		d.begin(value)
		c.nodes[i%30].put(b, "key", value)
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Second)
	b.StopTimer()
	d.report(b, 29*b.N)
	// A write that another one overtook is no delivery; there is none at this rate.
}

// BenchmarkCPU makes 150 changes a second on 30 nodes on loopback, of short
// strings, and measures the processor time of all of them. What clients, codecs
// and merging cost comes on top.
func BenchmarkCPU(b *testing.B) {
	c := newCluster(b, nil)
	c.grow(30)
	for i := range 100 {
		c.nodes[i%30].put(b, fmt.Sprintf("key/%d", i), "0")
	}
	awaitEqual(b, patience, c.nodes...)
	time.Sleep(time.Second) // of tails
	idle := cpuTime(b)
	time.Sleep(5 * time.Second)
	idle = cpuTime(b) - idle
	begin, tick := cpuTime(b), time.NewTicker(time.Second/150)
	defer tick.Stop()
	b.ResetTimer()
	for i := range b.N {
		<-tick.C
		c.nodes[i%30].put(b, fmt.Sprintf("key/%d", i%100), fmt.Sprintf("value %d", i))
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-begin)/1e6/float64(b.N), "cpu-ms/CAS")
	b.ReportMetric(100*float64(idle)/float64(5*time.Second), "idle-%")
	awaitEqual(b, patience, c.nodes...)
}
