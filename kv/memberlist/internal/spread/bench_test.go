package spread

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// cpuTime returns the processor time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// deliveries collects how long after its write each value arrived at other nodes.
type deliveries struct {
	mu    sync.Mutex
	begun map[string]write // by value
	took  []time.Duration
}

type write struct {
	by *node
	at time.Time
}

func (d *deliveries) begin(value string, by *node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.begun[value] = write{by, time.Now()}
}

func (d *deliveries) arrived(value string, on *node) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := d.begun[value]; ok && w.by != on {
		d.took = append(d.took, now.Sub(w.at))
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

// benchCluster starts nodes on loopback whose stores are watched.
func benchCluster(b *testing.B, nodes int) (*cluster, *deliveries) {
	d := &deliveries{begun: map[string]write{}}
	c := newCluster(b, nil)
	var watches sync.WaitGroup
	b.Cleanup(watches.Wait)
	for _, n := range c.grow(nodes) {
		watches.Go(func() {
			_ = n.store.Watch(b.Context(), nil, driver.Range{IsPrefix: true}, func(ev driver.Event) {
				if r, ok := ev.Entry.Object.(*state.Record); ok {
					value, _ := r.Encoded() // of a value that doesn't merge: never fails
					d.arrived(string(value), n)
				}
			})
		})
	}
	return c, d
}

// BenchmarkDelivery makes a change on one of 30 nodes on loopback 20 times a
// second and measures how long it takes to reach each of the others.
func BenchmarkDelivery(b *testing.B) {
	c, d := benchCluster(b, 30)
	b.ResetTimer()
	for i := range b.N {
		value := fmt.Sprintf("value %d", i)
		d.begin(value, c.nodes[i%30])
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
