package workload

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// inUse returns the bytes of this process's heap and stacks.
func inUse() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one only made free to finalizers and pools
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// keyMemoryWork: what each of Keys keys of ValueBytes takes in the process, the
// bytes of key and value included. A second sample shows nothing new.
func keyMemoryWork(_ context.Context, e *env) (Sampler, error) {
	clients, err := e.filled(context.Background(), 1) // what the first call sets up is nobody's
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (Sample, error) {
		before := inUse()
		s, err := measure(func() (Sample, error) {
			return Sample{Calls: int64(e.Keys)}, e.fill(ctx, clients[0], e.Keys)
		})
		s.Values = map[string]float64{"bytes": (inUse() - before) / float64(e.Keys)}
		return s, err
	}, nil
}

// watchMemoryWork: what each of Watchers idle watches takes, of a key of its
// own each, all on one client. On etcd it also tells how many streams the
// server sees. A second sample shows nothing new.
func watchMemoryWork(ctx context.Context, e *env) (Sampler, error) {
	clients, err := e.filled(ctx, e.Watchers)
	if err != nil {
		return nil, err
	}
	return func(sampling context.Context) (Sample, error) {
		before, goroutines := inUse(), runtime.NumGoroutine()
		streams, err := e.watchStreams(ctx)
		if err != nil {
			return Sample{}, err
		}
		var shown atomic.Int64
		seen := make([]atomic.Bool, e.Watchers)
		for i := range e.Watchers {
			e.background.Go(func() {
				clients[0].WatchKey(ctx, e.key(i), func(any) bool {
					if !seen[i].Swap(true) {
						shown.Add(1)
					}
					return true
				})
			})
		}
		s, err := measure(func() (Sample, error) {
			return Sample{Calls: int64(e.Watchers)}, e.warmUpAll(sampling, clients[0], seen, &shown)
		})
		if err != nil {
			return s, err
		}
		now, err := e.watchStreams(ctx)
		s.Values = map[string]float64{
			"bytes":      (inUse() - before) / float64(e.Watchers),
			"goroutines": float64(runtime.NumGoroutine()-goroutines) / float64(e.Watchers),
		}
		if e.target.Backend == "etcd" {
			s.Values["streams"] = now - streams
		}
		return s, err
	}, nil
}

// warmUpAll writes to keys until the watches of all have shown something.
func (e *env) warmUpAll(ctx context.Context, c Client, seen []atomic.Bool, shown *atomic.Int64) error {
	for n, deadline := int64(1), time.Now().Add(2*patience); shown.Load() < int64(len(seen)); n++ {
		for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
			if shown.Load() == int64(len(seen)) {
				return nil
			}
		}
		for i := range seen {
			if !seen[i].Load() {
				if err := put(ctx, c, e.key(i), e.value(n)); err != nil {
					return err
				}
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("only %d of %d watches have shown anything", shown.Load(), len(seen))
		}
	}
	return nil
}

// watchStreams asks the etcd servers how many watch streams are open.
func (e *env) watchStreams(ctx context.Context) (total float64, err error) {
	return e.ofEtcd(ctx, "etcd_debugging_mvcc_watch_stream_total")
}

// ofEtcd sums a metric of the etcd servers; 0 if there are none.
func (e *env) ofEtcd(ctx context.Context, name string) (total float64, err error) {
	if e.target.Backend != "etcd" {
		return 0, nil
	}
	for _, endpoint := range e.target.Endpoints {
		n, err := metric(ctx, "http://"+endpoint+"/metrics", name)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func metric(ctx context.Context, url, name string) (value float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseFloat(text, 64)
		}
	}
	return 0, fmt.Errorf("%s shows no %s", url, name)
}
