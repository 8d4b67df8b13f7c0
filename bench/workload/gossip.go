package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Cluster is a Store of backend "gossip": Target.Nodes nodes in this process,
// which share one value, a table of named numbers that merges entry by entry.
type Cluster interface {
	Store
	// Table returns the table as a node has it.
	Table(node int) Table
	// SentBytes returns how much all nodes have sent so far, headers of IP
	// left out.
	SentBytes() (float64, error)
}

// Table is the shared value of a cluster, on one node.
type Table interface {
	// Set changes one entry, by a CAS.
	Set(ctx context.Context, name string, n int64) error
	// Get reads the whole table.
	Get(ctx context.Context) error
	// Watch calls f with each new state until ctx is done. get is for use
	// during the call only.
	Watch(ctx context.Context, f func(get func(name string) int64))
}

var errNoCluster = errors.New("this contestant's store is not a cluster")

// arrivals follows what becomes of updates on all nodes.
type arrivals struct {
	mu      sync.Mutex
	pending []map[string]update // by node: the newest update of an entry that it lacks
	times   durations
}

type update struct {
	n    int64
	made time.Time
}

func newArrivals(nodes int) *arrivals {
	a := &arrivals{pending: make([]map[string]update, nodes)}
	for i := range a.pending {
		a.pending[i] = map[string]update{}
	}
	return a
}

// expect notes an update that every node is to see.
func (a *arrivals) expect(name string, n int64, made time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, node := range a.pending {
		node[name] = update{n, made}
	}
}

// look notes what a node has now.
func (a *arrivals) look(node int, get func(name string) int64) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, u := range a.pending[node] {
		if get(name) >= u.n {
			a.times = append(a.times, now.Sub(u.made))
			delete(a.pending[node], name)
		}
	}
}

func (a *arrivals) missing() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, node := range a.pending {
		n += len(node)
	}
	return n
}

// await waits until nothing is missing, for at most limit.
func (a *arrivals) await(ctx context.Context, limit time.Duration) int {
	for deadline := time.Now().Add(limit); a.missing() > 0 && time.Now().Before(deadline) && ctx.Err() == nil; {
		time.Sleep(time.Millisecond)
	}
	return a.missing()
}

// take returns what was timed so far and starts again.
func (a *arrivals) take() durations {
	a.mu.Lock()
	defer a.mu.Unlock()
	times := a.times
	a.times = nil
	return times
}

// gossipWork: a table of Keys entries on Nodes nodes; Writes updates a second,
// each on the next node. It times how long each takes to reach each node. What
// has not arrived 4 s after the last update counts as missing.
func gossipWork(ctx context.Context, e *env) (Sampler, error) {
	c, ok := e.store.(Cluster)
	if !ok {
		return nil, errNoCluster
	}
	a := newArrivals(e.Nodes)
	tables := make([]Table, e.Nodes)
	for i := range tables {
		tables[i] = c.Table(i)
		e.background.Go(func() { tables[i].Watch(ctx, func(get func(string) int64) { a.look(i, get) }) })
	}
	var n int64
	set := func(ctx context.Context, node int) error {
		n++
		name := fmt.Sprintf("entry-%04d", n%int64(e.Keys))
		a.expect(name, n, time.Now())
		return tables[node].Set(ctx, name, n)
	}
	// Not every client's watch tells what was there when it began.
	for deadline := time.Now().Add(patience); ; {
		for range e.Keys {
			if err := set(ctx, 0); err != nil {
				return nil, err
			}
		}
		missing := a.await(ctx, 2*time.Second)
		if missing == 0 {
			break
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d entries have not arrived", missing, e.Keys*e.Nodes)
		}
	}
	return func(ctx context.Context) (Sample, error) {
		a.take()
		before, err := c.SentBytes()
		if err != nil {
			return Sample{}, err
		}
		calls := int64(0)
		s, err := measure(func() (Sample, error) {
			tick := time.NewTicker(time.Second / time.Duration(e.Writes))
			defer tick.Stop()
			for end := time.Now().Add(time.Duration(e.Seconds * float64(time.Second))); time.Now().Before(end); calls++ {
				<-tick.C
				if err := set(ctx, int(calls)%e.Nodes); err != nil {
					return Sample{}, err
				}
			}
			return Sample{Calls: calls}, nil
		})
		if err != nil {
			return s, err
		}
		after, err := c.SentBytes()
		missing := a.await(ctx, 4*time.Second)
		s.Values = a.take().quantiles()
		if s.Values == nil {
			return s, errors.New("nothing arrived anywhere")
		}
		s.Values["missing"] = float64(missing)
		s.Values["bytes"] = (after - before) / float64(calls)
		return s, err
	}, nil
}

// gossipIdleWork: Nodes nodes that have nothing to tell each other.
func gossipIdleWork(_ context.Context, e *env) (Sampler, error) {
	c, ok := e.store.(Cluster)
	if !ok {
		return nil, errNoCluster
	}
	return func(ctx context.Context) (Sample, error) {
		before, err := c.SentBytes()
		if err != nil {
			return Sample{}, err
		}
		s, err := measure(func() (Sample, error) {
			timer := time.NewTimer(time.Duration(e.Seconds * float64(time.Second)))
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			return Sample{Calls: 1}, ctx.Err()
		})
		if err != nil {
			return s, err
		}
		after, err := c.SentBytes()
		s.Values = map[string]float64{"bytes": (after - before) / s.Seconds}
		return s, err
	}, nil
}

// gossipGetWork: Callers goroutines read a table of Keys entries on one node.
func gossipGetWork(ctx context.Context, e *env) (Sampler, error) {
	c, ok := e.store.(Cluster)
	if !ok {
		return nil, errNoCluster
	}
	table := c.Table(0)
	for i := range e.Keys {
		if err := table.Set(ctx, fmt.Sprintf("entry-%04d", i), 1); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) (Sample, error) {
		return measure(func() (Sample, error) {
			return e.repeat(ctx, func(ctx context.Context, _ int) error {
				return table.Get(ctx)
			})
		})
	}, nil
}
