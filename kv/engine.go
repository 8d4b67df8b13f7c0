package kv

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// engine is what all views of one client share: the driver's handle, what was
// last seen of its entries, and the calls under way.
type engine struct {
	store    driver.Store
	resolver driver.Resolver // nil if the driver has none
	epocher  driver.Epocher  // nil if the driver has none
	locator  driver.Locator  // nil if the driver has none
	values   driver.Values   // nil if the driver has none: values are bytes to it
	compares bool            // what watches were told, see Options.CompareWatches
	local    bool            // the store never waits, see driver.NonBlocking
	opts     Options
	limits   Limits
	tracer   Tracer // nil: none

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	gate   gate // every goroutine of the engine, and every request under way

	requests underway

	generation atomic.Uint64
	memory     *memory
	ticked     struct {
		sync.Mutex
		last time.Time
	}
	groups  groups
	hub     hub
	outages outages

	closeOnce sync.Once
	closeErr  error
}

func newEngine(store driver.Store, opts Options) *engine {
	e := &engine{store: store, opts: opts, limits: store.Limits()}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.resolver, _ = store.(driver.Resolver)
	e.epocher, _ = store.(driver.Epocher)
	e.locator, _ = store.(driver.Locator)
	e.outages.e = e
	e.tracer, _ = opts.Observer.(Tracer)
	if v, ok := store.(driver.ValueStore); ok {
		e.values = v.Values()
	}
	if nb, ok := store.(driver.NonBlocking); ok {
		e.local = nb.NonBlocking()
	}
	wc, ok := store.(driver.WatchComparer)
	e.compares = opts.CompareWatches > 0 && !(ok && wc.ComparesWatches())
	e.groups.init()
	lower(&e.limits.Key, MaxKeyLen)
	lower(&e.limits.Value, opts.MaxValueSize)
	lower(&e.limits.GuardedValue, opts.MaxValueSize)
	if !e.local && opts.RememberEntries > 0 { // a local read costs less than remembering
		e.memory = newMemory(opts)
	}
	return e
}

// lower sets *limit to limit2 if that is set and lower.
func lower(limit *int, limit2 int) {
	if limit2 > 0 && (*limit == 0 || limit2 < *limit) {
		*limit = limit2
	}
}

func (e *engine) close() error {
	e.closeOnce.Do(func() {
		e.cancel()
		e.requests.close()
		e.gate.shut()
		e.outages.close()
		e.closeErr = e.store.Close()
	})
	return e.closeErr
}

// sawGeneration drops everything remembered when the store's history is
// another than it was.
func (e *engine) sawGeneration(g uint64) {
	if e.generation.Load() != g && e.generation.Swap(g) != g && e.memory != nil {
		e.memory.purge()
	}
}

// now is the time for what is remembered; no matter where nothing is.
func (e *engine) now() (now time.Time) {
	if e.memory != nil {
		now = e.tick()
	}
	return now
}

// tick is a time that it never returned before. Two of the system's may be alike:
// its clock may tick slowly, and in a bubble of testing/synctest it stands still.
// What was remembered before a call would then count as read since its begin.
func (e *engine) tick() time.Time {
	now := time.Now()
	if e.local { // nothing is remembered
		return now
	}
	e.ticked.Lock()
	defer e.ticked.Unlock()
	if !now.After(e.ticked.last) {
		now = e.ticked.last.Add(1)
	}
	e.ticked.last = now
	return now
}

// epoch returns the store's epoch, see driver.Epocher.
func (e *engine) epoch() uint64 {
	if e.epocher == nil {
		return 0
	}
	return e.epocher.Epoch()
}

// remember keeps what a read or swap that began at asOf, in an epoch, showed of
// a key.
func (e *engine) remember(entry *driver.Entry, asOf time.Time, epoch uint64) {
	if e.memory != nil && entry.Generation == e.generation.Load() {
		e.memory.put(*entry, asOf, epoch)
	}
}

func (e *engine) recall(key string) (cached, bool) {
	if e.memory == nil {
		return cached{}, false
	}
	return e.memory.get(key, e.epoch())
}

func (e *engine) forget(key string) {
	if e.memory != nil {
		e.memory.drop(key)
	}
}

// gate counts what Close must wait for and refuses more once it is shut.
type gate struct {
	mu     sync.RWMutex
	closed bool
	inside sync.WaitGroup
}

// enter reports whether the gate is open; then leave must follow.
func (g *gate) enter() bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if !g.closed {
		g.inside.Add(1)
	}
	return !g.closed
}

func (g *gate) leave() { g.inside.Done() }

// shut closes the gate and waits until everybody left.
func (g *gate) shut() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}
