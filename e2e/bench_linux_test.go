package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polykv/polykv/kv"
)

// BenchmarkCASToWatch is the time from the begin of a CAS to the call of the
// callback of WatchKey on another client, on an idle machine, and from the end
// of the CAS.
func BenchmarkCASToWatch(b *testing.B) {
	for _, be := range []backend{etcdBackend, consulBackend} {
		b.Run(be.name, func(b *testing.B) { casToWatch(b, be) })
	}
}

func casToWatch(b *testing.B, be backend) {
	endpoints := be.shared.Get(b).Endpoints()
	writer, reader := be.client(b, kv.Options{}, endpoints...), be.client(b, kv.Options{}, endpoints...)
	key := "bench/watched-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	mustCAS(b, writer, key, "begin")
	arrived := make(chan time.Time)
	var ended sync.WaitGroup
	ended.Go(func() {
		reader.WatchKey(b.Context(), key, func(any) bool {
			select {
			case arrived <- time.Now():
				return true
			case <-b.Context().Done():
				return false
			}
		})
	})
	<-arrived
	var fromBegin, fromEnd []time.Duration
	for i := 0; b.Loop(); i++ {
		time.Sleep(5 * time.Millisecond) // idle between two writes
		begun := time.Now()
		done := make(chan time.Time, 1)
		go func() {
			mustCAS(b, writer, key, strconv.Itoa(i))
			done <- time.Now()
		}()
		at, end := <-arrived, <-done
		fromBegin, fromEnd = append(fromBegin, at.Sub(begun)), append(fromEnd, at.Sub(end))
	}
	report := func(name string, ds []time.Duration) {
		slices.Sort(ds)
		b.ReportMetric(float64(ds[len(ds)/2].Microseconds()), name+"-median-µs")
		b.ReportMetric(float64(ds[len(ds)*99/100].Microseconds()), name+"-p99-µs")
	}
	report("begin", fromBegin)
	report("end", fromEnd)
}

// BenchmarkLargePrefix is a watch of 10,000 keys, one of which changes 100
// times a second. An op is a second of that. CPU is in percent of one
// processor; the client's is with the writer's.
func BenchmarkLargePrefix(b *testing.B) {
	for _, be := range []backend{etcdBackend, consulBackend} {
		for _, watches := range []int{0, 1} {
			b.Run(fmt.Sprintf("%s/%d-watches", be.name, watches), func(b *testing.B) { largePrefix(b, be, watches) })
		}
	}
}

func largePrefix(b *testing.B, be backend, watches int) {
	const keys, perSecond = 10_000, 100
	cluster := be.shared.Get(b)
	writer, reader := be.client(b, kv.Options{}, cluster.Endpoints()...), be.client(b, kv.Options{}, cluster.Endpoints()...)
	prefix := "large/"
	want := map[string]any{}
	var filling sync.WaitGroup
	for part := range 50 {
		filling.Go(func() {
			for i := part; i < keys; i += 50 {
				mustCAS(b, writer, fmt.Sprintf("%s%05d", prefix, i), "a value of some length, as it may be")
			}
		})
	}
	filling.Wait()
	for i := range keys {
		want[fmt.Sprintf("%s%05d", prefix, i)] = "a value of some length, as it may be"
	}
	var pictures []*picture
	for range watches {
		p := watchPicture(b, reader, prefix)
		eventually(b, "the watch has begun", func() bool { return p.equals(want) })
		pictures = append(pictures, p)
	}
	key := prefix + "05000"
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	server, client, begun := serverCPU(b, cluster.Pid(0)), ownCPU(b), time.Now()
	writes := 0
	for b.Loop() {
		for range perSecond {
			<-tick.C
			writes++
			mustCAS(b, writer, key, strconv.Itoa(writes))
		}
	}
	took := time.Since(begun).Seconds()
	b.ReportMetric(100*(serverCPU(b, cluster.Pid(0))-server).Seconds()/took, "server-%CPU")
	b.ReportMetric(100*(ownCPU(b)-client).Seconds()/took, "client-%CPU")
	b.ReportMetric(float64(writes)/took, "writes/s")
	end := time.Now()
	want[key] = strconv.Itoa(writes)
	for _, p := range pictures {
		eventually(b, "the watch shows the final state", func() bool { return p.equals(want) })
		b.ReportMetric(float64(time.Since(end).Milliseconds()), "final-ms")
		p.mu.Lock()
		b.ReportMetric(float64(p.calls-keys)/took, "callbacks/s")
		p.mu.Unlock()
	}
	mustCAS(b, writer, key, "a value of some length, as it may be")
}

func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// serverCPU reads what a process has used, from proc_pid_stat(5).
func serverCPU(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the program's name
	fields := strings.Fields(rest)
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	const perSecond = 100 // USER_HZ
	return time.Duration(ticks) * time.Second / perSecond
}
