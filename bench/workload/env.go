package workload

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// env is what a work has at hand.
type env struct {
	Spec
	target     Target
	store      Store
	line       *line          // to the server, of a work that interrupts it
	background sync.WaitGroup // watches, which end with the context of Prepare
}

func (e *env) key(i int) string { return fmt.Sprintf("%s/%07d", e.Prefix, i) }

func (e *env) clients() ([]Client, error) {
	all := make([]Client, e.Clients)
	for i := range all {
		c, err := e.store.Client()
		if err != nil {
			return nil, err
		}
		all[i] = c
	}
	return all, nil
}

// filled returns the clients once n keys are written.
func (e *env) filled(ctx context.Context, n int) ([]Client, error) {
	clients, err := e.clients()
	if err != nil {
		return nil, err
	}
	return clients, e.fill(ctx, clients[0], n)
}

// keys are the names of all Keys keys.
func (e *env) keys() []string {
	keys := make([]string, e.Keys)
	for i := range keys {
		keys[i] = e.key(i)
	}
	return keys
}

// fill writes n keys, several at a time.
func (e *env) fill(ctx context.Context, c Client, n int) error {
	const writers = 16
	var next atomic.Int64
	var all sync.WaitGroup
	var failed failure
	for range min(writers, n) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.get() == nil; i = int(next.Add(1)) - 1 {
				failed.set(put(ctx, c, e.key(i), e.value(0)))
			}
		})
	}
	all.Wait()
	return failed.get()
}

// put writes one key.
func put(ctx context.Context, c Client, key, value string) error {
	return retry(func() error {
		return c.CAS(ctx, key, func(any) (any, bool, error) { return value, true, nil })
	})
}

// retry tries again: some clients fail for being unlucky.
func retry(f func() error) (err error) {
	for range 20 {
		if err = f(); err == nil {
			return nil
		}
	}
	return err
}

// value returns a value of e.ValueBytes that stands for the number n.
func (e *env) value(n int64) string {
	digits := strconv.FormatInt(n, 10)
	if pad := e.ValueBytes - len(digits) - 1; pad > 0 {
		return digits + "|" + padding(pad)
	}
	return digits
}

var paddings sync.Map // by size

func padding(n int) string {
	if s, ok := paddings.Load(n); ok {
		return s.(string)
	}
	s := strings.Repeat("polykv benchmark value ", n/23+1)[:n]
	paddings.Store(n, s)
	return s
}

// number is the reverse of value; nil stands for 0.
func number(v any) (int64, error) {
	if v == nil {
		return 0, nil
	}
	s, ok := v.(string)
	if !ok {
		return 0, fmt.Errorf("a value of type %T where a string was written", v)
	}
	digits, _, _ := strings.Cut(s, "|")
	return strconv.ParseInt(digits, 10, 64)
}

// increment is the callback of every counter: what most users do, read a
// value, change it and write it back.
func (e *env) increment(in any) (any, bool, error) {
	n, err := number(in)
	if err != nil {
		return nil, false, err
	}
	return e.value(n + 1), true, nil
}

// failure keeps the first error of several goroutines.
type failure struct{ err atomic.Pointer[error] }

func (f *failure) set(err error) {
	if err != nil {
		f.err.CompareAndSwap(nil, &err)
	}
}

func (f *failure) get() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// measure runs f and tells what it cost the process.
func measure(f func() (Sample, error)) (Sample, error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cpu, start := cpuSeconds(), time.Now()
	s, err := f()
	if s.Seconds == 0 {
		s.Seconds = time.Since(start).Seconds()
	}
	s.CPUSeconds = cpuSeconds() - cpu
	runtime.ReadMemStats(&after)
	s.Allocs = float64(after.Mallocs - before.Mallocs)
	return s, err
}

// repeat has each of e.Callers goroutines call f until e.Seconds have passed,
// and counts what succeeded and failed. Calls are not timed one by one, which
// would cost as much as some of them do.
func (e *env) repeat(ctx context.Context, f func(ctx context.Context, caller int) error) (Sample, error) {
	var stop atomic.Bool
	limit := time.Duration(e.Seconds * float64(time.Second))
	timer := time.AfterFunc(limit, func() { stop.Store(true) })
	defer timer.Stop()
	// What is so slow that its calls go on for long after shall not hold up
	// the others.
	ctx, cancel := context.WithTimeout(ctx, limit+10*time.Second)
	defer cancel()
	var calls, failed atomic.Int64
	var last failure
	start := time.Now()
	var all sync.WaitGroup
	for caller := range e.Callers {
		all.Go(func() {
			var ok, wrong int64
			for !stop.Load() {
				if err := f(ctx, caller); err != nil {
					last.set(err)
					wrong++
				} else {
					ok++
				}
			}
			calls.Add(ok)
			failed.Add(wrong)
		})
	}
	all.Wait()
	s := Sample{Calls: calls.Load(), Failed: failed.Load(), Seconds: time.Since(start).Seconds()}
	if s.Calls == 0 {
		return s, errors.Join(errors.New("not one call succeeded"), last.get())
	}
	return s, nil
}
