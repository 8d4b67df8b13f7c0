package workload

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// patience bounds how long a watch may take to show something.
const patience = 30 * time.Second

var errUnseen = errors.New("a watch has not shown a written value within 30s")

// watcher follows numbers.
type watcher struct {
	seen  atomic.Int64
	moved wake
}

func newWatcher() *watcher { return &watcher{moved: make(wake, 1)} }

func (w *watcher) take(v any) bool {
	if n, err := number(v); err == nil {
		w.seen.Store(n)
		w.moved.signal()
	}
	return true
}

// await waits until n was seen.
func (w *watcher) await(ctx context.Context, n int64) error {
	return w.moved.await(ctx, func() bool { return w.seen.Load() >= n })
}

// wake says that something was seen, to one waiter. Its capacity is 1.
type wake chan struct{}

func (w wake) signal() {
	select {
	case w <- struct{}{}:
	default:
	}
}

func (w wake) await(ctx context.Context, reached func() bool) error {
	if reached() {
		return nil
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for !reached() {
		select {
		case <-w:
		case <-timeout.C:
			return errUnseen
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// warmUp writes ever higher numbers until reached returns true, since not every
// client's watch tells when it has begun or what was there then. It returns
// the last number.
func (e *env) warmUp(ctx context.Context, c Client, key string, from int64, reached func(n int64) bool) (int64, error) {
	for n, deadline := from+1, time.Now().Add(patience); ; n++ {
		if err := put(ctx, c, key, e.value(n)); err != nil {
			return n, err
		}
		for until := time.Now().Add(50 * time.Millisecond); time.Now().Before(until); time.Sleep(time.Millisecond) {
			if reached(n) {
				return n, nil
			}
		}
		if time.Now().After(deadline) {
			return n, errUnseen
		}
	}
}

// deliveries measures the time from a write of key until whoever watches it has
// shown it, once those watches are up.
func (e *env) deliveries(
	ctx context.Context, c Client, key string, reached func(n int64) bool, await func(ctx context.Context, n int64) error,
) (Sampler, error) {
	n, err := e.warmUp(ctx, c, key, 0, reached)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (Sample, error) {
		return e.oneByOne(func() error {
			n++
			if err := put(ctx, c, key, e.value(n)); err != nil {
				return err
			}
			return await(ctx, n)
		})
	}, nil
}

// oneByOne times calls of f for e.Seconds, but at least three of them. The
// first is left out: what limits its rate has had time to recover before it.
func (e *env) oneByOne(f func() error) (Sample, error) {
	if err := f(); err != nil {
		return Sample{}, err
	}
	return e.times(3, func() (time.Duration, error) {
		start := time.Now()
		err := f()
		return time.Since(start), err
	})
}

// times gathers what f returns, for e.Seconds, but at least so many times.
func (e *env) times(least int, f func() (time.Duration, error)) (Sample, error) {
	return measure(func() (Sample, error) {
		var times durations
		for end := time.Now().Add(time.Duration(e.Seconds * float64(time.Second))); len(times) < least || time.Now().Before(end); {
			took, err := f()
			if err != nil {
				return Sample{}, err
			}
			times = append(times, took)
		}
		return Sample{Calls: int64(len(times)), Values: times.quantiles()}, nil
	})
}

// notifyWork: one caller increments a counter and waits until another client's
// watch has shown it. With Keys > 1 the watch is of a prefix with so many keys.
func notifyWork(ctx context.Context, e *env) (Sampler, error) {
	e.Clients = 2
	clients, err := e.filled(ctx, e.Keys)
	if err != nil {
		return nil, err
	}
	w, key := newWatcher(), e.key(e.Keys/2)
	e.background.Go(func() {
		if e.Keys > 1 {
			clients[1].WatchPrefix(ctx, e.Prefix+"/", func(k string, v any) bool { return k != key || w.take(v) })
		} else {
			clients[1].WatchKey(ctx, key, w.take)
		}
	})
	return e.deliveries(ctx, clients[0], key, func(n int64) bool { return w.seen.Load() >= n }, w.await)
}

// prefixWatchWork: Callers goroutines make Writes writes to Keys keys under a
// watched prefix. It measures the time from the first write until the watch has
// shown the final state of every key, and how long that was after the last
// write.
func prefixWatchWork(ctx context.Context, e *env) (Sampler, error) {
	e.Clients = 2
	clients, err := e.filled(ctx, e.Keys)
	if err != nil {
		return nil, err
	}
	states := newStates()
	e.background.Go(func() { clients[1].WatchPrefix(ctx, e.Prefix+"/", states.take) })
	count, err := e.warmUp(ctx, clients[0], e.key(0), 0, func(n int64) bool { return states.get(e.key(0)) >= n })
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (Sample, error) {
		return measure(func() (Sample, error) {
			var next atomic.Int64
			var failed failure
			var all sync.WaitGroup
			start, base := time.Now(), count
			for range e.Callers {
				all.Go(func() {
					for i := next.Add(1); i <= int64(e.Writes) && failed.get() == nil; i = next.Add(1) {
						failed.set(retry(func() error {
							return clients[0].CAS(ctx, e.key(int(i)%e.Keys), func(in any) (any, bool, error) {
								n, err := number(in)
								return e.value(max(n, base+i)), true, err // the highest is the final one
							})
						}))
					}
				})
			}
			all.Wait()
			written := time.Now()
			count = base + int64(e.Writes)
			if err := failed.get(); err != nil {
				return Sample{}, err
			}
			// The last Keys writes have the highest numbers, one for each key.
			if err := states.await(ctx, func(s map[string]int64) bool {
				for i := e.Writes - e.Keys + 1; i <= e.Writes; i++ {
					if s[e.key(i%e.Keys)] < base+int64(i) {
						return false
					}
				}
				return true
			}); err != nil {
				return Sample{}, err
			}
			return Sample{Calls: int64(e.Writes), Values: map[string]float64{
				"total": time.Since(start).Seconds(), "lag": time.Since(written).Seconds(),
			}}, nil
		})
	}, nil
}

// states is what a prefix watch has shown.
type states struct {
	mu    sync.Mutex
	of    map[string]int64
	moved wake
}

func newStates() *states { return &states{of: map[string]int64{}, moved: make(wake, 1)} }

func (s *states) take(key string, v any) bool {
	if n, err := number(v); err == nil {
		s.mu.Lock()
		s.of[key] = n
		s.mu.Unlock()
		s.moved.signal()
	}
	return true
}

func (s *states) get(key string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[key]
}

func (s *states) await(ctx context.Context, complete func(map[string]int64) bool) error {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	pause := time.NewTicker(time.Millisecond) // not at each of thousands of changes
	defer pause.Stop()
	for {
		s.mu.Lock()
		done := complete(s.of)
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-s.moved:
			<-pause.C
		case <-timeout.C:
			return errUnseen
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fanOutWork: Watchers watches of one key, on one client. It measures the time
// from a write until all have shown it.
func fanOutWork(ctx context.Context, e *env) (Sampler, error) {
	e.Clients = 2
	clients, err := e.filled(ctx, 1)
	if err != nil {
		return nil, err
	}
	key := e.key(0)
	all := newCrowd(e.Watchers)
	for range e.Watchers {
		e.background.Go(func() { clients[1].WatchKey(ctx, key, all.member()) })
	}
	return e.deliveries(ctx, clients[0], key, all.reached, all.await)
}

// crowd counts how many watches have reached a number.
type crowd struct {
	size  int
	moved wake

	mu    sync.Mutex
	at    int64 // the highest number that was shown
	there int   // how many watches have shown it
}

func newCrowd(size int) *crowd { return &crowd{size: size, moved: make(wake, 1)} }

// member returns the callback of one watch.
func (c *crowd) member() func(any) bool {
	return func(v any) bool {
		if n, err := number(v); err == nil && c.advance(n) {
			c.moved.signal()
		}
		return true
	}
}

// advance counts one watch at n, and tells whether it was the last.
func (c *crowd) advance(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > c.at {
		c.at, c.there = n, 0
	}
	if n == c.at {
		c.there++
	}
	return c.there >= c.size
}

func (c *crowd) reached(n int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at == n && c.there >= c.size
}

func (c *crowd) await(ctx context.Context, n int64) error {
	return c.moved.await(ctx, func() bool { return c.reached(n) })
}
