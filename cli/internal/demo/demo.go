// Package demo runs the main job of polykv in miniature and checks that every
// promise was kept: several clients count shared counters up, create and delete
// keys, and mirror by watches what they see.
package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	humanize "github.com/dustin/go-humanize"

	"github.com/polykv/polykv/kv"
)

// Options say what to run. Every number must be positive.
type Options struct {
	// Open returns one more client of the store, with values of type string and
	// a prefix below which there is nothing else. The observer is to be told
	// what its engine does.
	Open func(ctx context.Context, observer kv.Observer) (kv.Client, error)

	Clients  int
	Workers  int // of each client
	Counters int
	Duration time.Duration

	// Settle is how long watchers may take to catch up after the last write.
	Settle time.Duration

	// Move, if set, moves the data to another store in the middle of the run.
	Move *Move

	// Progress, if set, is told ten times a second how it goes.
	Progress func(Progress)
}

// Progress tells how a demo goes.
type Progress struct {
	Phase   string // "running", "verifying" or "cleaning up"
	Elapsed time.Duration
	Calls   int64 // that succeeded
	Failed  int64
}

// String tells the calls.
func (p Progress) String() string {
	text := count(p.Calls, "call")
	if p.Failed > 0 {
		text += ", " + humanize.Comma(p.Failed) + " failed"
	}
	return text
}

const (
	// grace is how long calls may go on after the workers were told to stop:
	// more than the client's own limits, so that a call that takes longer is
	// one that is stuck.
	grace = 60 * time.Second

	cleanupTimeout = 30 * time.Second
	tick           = 100 * time.Millisecond
)

// run is one run of the demo.
type run struct {
	Options
	start    time.Time
	clients  []kv.Client
	verifier kv.Client
	observer observer
	counters []counter
	workers  []*worker
	watchers []*watcher
	promises *promises
	moved    *moving
	pauses   pauses

	done, failed  atomic.Int64
	readsCompared atomic.Int64
	causes        causes
}

// ErrLeftBehind says that not all of the demo's keys could be removed.
var ErrLeftBehind = errors.New("could not remove all of the demo's keys")

// Run runs the demo for Options.Duration, or until ctx ends, then verifies what
// ran and removes its keys, whether or not ctx has ended. Errors mean that it
// couldn't run or couldn't verify; a broken promise is in the report. Keys that
// could not be removed are ErrLeftBehind, beside a report if there is one.
func Run(ctx context.Context, o Options) (*Report, error) {
	r := &run{Options: o, start: time.Now(), promises: newPromises(o.Move != nil), counters: make([]counter, o.Counters)}
	r.observer.lag = newHistogram()
	defer r.close()
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	elapsed, stopWatching := r.work(ctx)
	defer stopWatching()

	ctx = context.WithoutCancel(ctx)
	report, err := r.verify(ctx, elapsed)
	if err == nil && r.done.Load() == 0 {
		report, err = nil, r.nothingRan()
	}
	return report, errors.Join(err, r.cleanUp(ctx))
}

// open opens one client more than asked for: it takes no part, and verifies.
func (r *run) open(ctx context.Context) error {
	for range r.Clients + 1 {
		c, err := r.Open(ctx, &r.observer)
		if err != nil {
			return err
		}
		r.clients = append(r.clients, c)
	}
	r.verifier = r.clients[r.Clients]
	r.clients = r.clients[:r.Clients]
	for i := range r.counters {
		r.counters[i].key = fmt.Sprintf("counters/%03d", i)
	}
	for i := range r.Clients {
		r.watchers = append(r.watchers, newWatcher(fmt.Sprintf("watcher %d", i), &r.promises.order))
		for j := range r.Workers {
			r.workers = append(r.workers, newWorker(r, i, j))
		}
	}
	return nil
}

func (r *run) close() {
	for _, c := range r.clients {
		c.Close()
	}
	if r.verifier != nil {
		r.verifier.Close()
	}
}

// work lets the workers work and returns how long they did. The watchers go on
// until stopWatching is called.
func (r *run) work(ctx context.Context) (elapsed time.Duration, stopWatching func()) {
	calls, cancelCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelCalls()
	watching, cancelWatching := context.WithCancel(context.WithoutCancel(ctx))
	var watchers, workers sync.WaitGroup
	for i, w := range r.watchers {
		watchers.Go(func() { w.watch(watching, r, i) })
	}
	stop, cancelStop := context.WithTimeout(ctx, r.Duration)
	defer cancelStop()
	r.start = time.Now()
	for _, w := range r.workers {
		workers.Go(func() { w.work(calls, stop) })
	}
	stopReporting := r.reporting("running")
	r.moved = r.move(stop)
	<-stop.Done()
	last := time.AfterFunc(grace, cancelCalls)
	workers.Wait()
	<-r.moved.done
	elapsed = time.Since(r.start)
	last.Stop()
	stopReporting()
	return elapsed, func() {
		cancelWatching()
		watchers.Wait()
	}
}

// reporting tells Options.Progress at every tick until the returned function
// has returned.
func (r *run) reporting(phase string) (stop func()) {
	if r.Progress == nil {
		return func() {}
	}
	tell := func() {
		r.Progress(Progress{Phase: phase, Elapsed: time.Since(r.start), Calls: r.done.Load(), Failed: r.failed.Load()})
	}
	tell()
	quit := make(chan struct{})
	var reporter sync.WaitGroup
	reporter.Go(func() {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				tell()
			case <-quit:
				return
			}
		}
	})
	return func() {
		close(quit)
		reporter.Wait()
		tell()
	}
}

// judge takes in the error of a call.
func (r *run) judge(key string, err error) {
	r.failed.Add(1)
	switch {
	case errors.Is(err, kv.ErrConflict):
		r.promises.contention.breaks("%s: %v", key, err)
	case errors.Is(err, kv.ErrUnavailable), errors.Is(err, kv.ErrIndeterminate):
		r.causes.add(err)
		time.Sleep(tick) // the store is in trouble; don't make it worse
	default:
		r.promises.errors.breaks("%s: %v", key, err)
		r.causes.add(err)
		time.Sleep(tick)
	}
}

// causes keeps the errors that the store is to blame for.
type causes struct {
	mu   sync.Mutex
	n    int
	last error
}

func (c *causes) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	c.last = err
}

func (c *causes) get() (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n, c.last
}

func (r *run) nothingRan() error {
	if _, err := r.causes.get(); err != nil {
		return fmt.Errorf("no call succeeded; the last one failed with: %w", err)
	}
	return errors.New("nothing ran: interrupted before the first call ended")
}
