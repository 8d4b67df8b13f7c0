package multi

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// mirror keeps the tasks that are to be done: for each key and direction at
// most one, whatever number of writes it stands for.
//
// A task that has not been tried yet, or is running, is what writes wait for.
// One that failed, or whose direction is not on or dead, waits in the direction's
// backlog, for which no write waits.
type mirror struct {
	core *core

	mu         sync.Mutex
	closed     bool
	directions [2]*direction // by the store that is written
	queue      *list.List    // of *task: to be run by the next worker
	workers    int
	wake       chan struct{} // of capacity 1: the times of retries may have changed
}

// mirrorState says what may be mirrored into a store.
type mirrorState uint8

const (
	mirrorOff    mirrorState = iota // nothing: what is pending is dropped
	mirrorPaused                    // nothing for now: what is pending is kept
	mirrorOn                        // everything
)

// direction is all that goes into one store.
type direction struct {
	to    int
	state mirrorState
	dead  bool  // what was tried last failed for a reason that holds for all keys
	probe *task // whose run tells whether a dead store answers again; nil: none

	tasks   map[string]*task
	backlog *list.List // of *task: those that wait for a retry, oldest first
	retryAt time.Time  // of the backlog; zero: none is due
	pause   *wait.Backoff
	emptied chan struct{} // closed and replaced when the last task is done

	mirrored, failed, late uint64
	lastErr                error
}

// task is one key to mirror into one store.
type task struct {
	direction *direction
	key       string
	since     time.Time     // of the oldest write that it stands for
	place     *list.Element // in the queue or the backlog; nil: it is running
	waiting   bool          // it is in the backlog
	next      chan struct{} // closed when the next run ends; nil: nobody waits for it
	err       error         // how the last run ended

	writes int          // that the next run stands for; many once a run failed
	change *side.Change // what the one write changed, if there was one

	callers []context.Context // of those writes, the first ones, for a tracer
	tried   int               // how many of them the run under way is for
}

// mostCallers bounds what a task that has to wait keeps for a tracer.
const mostCallers = 8

const many = 2 // writes, or more

func newMirror(c *core) *mirror {
	m := &mirror{core: c, queue: list.New(), wake: make(chan struct{}, 1)}
	for to := range m.directions {
		m.directions[to] = &direction{
			to: to, tasks: make(map[string]*task), backlog: list.New(), emptied: make(chan struct{}),
			pause: wait.NewBackoff(c.cfg.MirrorMinBackoff, c.cfg.MirrorMaxBackoff),
		}
	}
	return m
}

// takes reports whether a write that is to be mirrored into a store now would
// be at once.
func (m *mirror) takes(to int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.directions[to]
	return d.state == mirrorOn && !d.dead
}

// add notes that key was written in the other store than to, and what the write
// changed, if that is known for certain. ctx is the write's. It returns what to
// wait for; nil if there is nothing that will happen soon.
func (m *mirror) add(ctx context.Context, to int, key string, change *side.Change) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.directions[to]
	if d.state == mirrorOff || m.closed {
		return nil
	}
	t := d.tasks[key]
	if t == nil {
		t = &task{direction: d, key: key, since: time.Now()}
		d.tasks[key] = t
		if d.state == mirrorOn && !d.dead {
			m.enqueue(t)
		} else {
			m.putOff(t)
		}
	}
	if t.writes++; t.writes > 1 {
		change = nil
	}
	t.change = change
	if m.core.tracer != nil && len(t.callers) < mostCallers {
		t.callers = append(t.callers, ctx)
	}
	switch {
	case t.waiting || d.dead || d.state != mirrorOn:
		if t.place == nil && t.next == nil {
			t.next = make(chan struct{}) // the run under way may have read before the write
		}
		return nil
	case t.next == nil:
		t.next = make(chan struct{})
	}
	return t.next
}

// wait waits for a run for as long as a write may.
func (m *mirror) wait(ctx context.Context, to int, r <-chan struct{}) {
	if r == nil || m.core.cfg.MirrorAsync {
		return
	}
	select {
	case <-r:
	case <-ctx.Done():
	case <-m.core.ctx.Done():
	case <-time.After(m.core.cfg.MirrorTimeout):
		m.tooLate(to, r)
	}
}

// tooLate takes a direction for dead whose answer a write waited for in vain: no
// other write shall.
func (m *mirror) tooLate(to int, r <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-r:
		return
	default:
	}
	d := m.directions[to]
	d.late++
	m.fail(d, fmt.Errorf("no answer within %v", m.core.cfg.MirrorTimeout))
}

// fail takes a direction for dead; m.mu is held.
func (m *mirror) fail(d *direction, err error) {
	if d.dead || d.state != mirrorOn {
		return
	}
	d.dead, d.lastErr = true, err
	d.pause.Reset()
	m.schedule(d)
	for el := m.queue.Front(); el != nil; { // what has not been tried need not be
		next := el.Next()
		if t, _ := el.Value.(*task); t.direction == d {
			m.queue.Remove(el)
			m.putOff(t)
		}
		el = next
	}
	m.core.log.Warn("polykv: mirroring lags", "store", m.core.stores[d.to].name, "error", err)
}

// enqueue has t run by the next worker; m.mu is held.
func (m *mirror) enqueue(t *task) {
	t.waiting = false
	t.place = m.queue.PushBack(t)
	if m.workers < m.core.cfg.MirrorWorkers {
		m.workers++
		m.core.start(m.work)
	}
}

// putOff leaves t in the backlog and lets go of whoever waits for it; m.mu is
// held.
func (m *mirror) putOff(t *task) {
	t.waiting = true
	t.writes, t.change = many, nil // it may take long
	t.place = t.direction.backlog.PushBack(t)
	t.release()
	if t.direction.retryAt.IsZero() && t.direction.state == mirrorOn {
		m.schedule(t.direction)
	}
}

func (t *task) release() {
	if t.next != nil {
		close(t.next)
		t.next = nil
	}
}

// work runs queued tasks until there are none.
func (m *mirror) work() {
	for {
		m.mu.Lock()
		el := m.queue.Front()
		if el == nil {
			m.workers--
			m.mu.Unlock()
			return
		}
		t, _ := m.queue.Remove(el).(*task)
		t.place = nil
		r := t.next
		t.next = nil // who comes from here on waits for the next run
		change := t.change
		t.writes, t.change, t.tried = 0, nil, len(t.callers)
		ctx, ended := m.start(t)
		m.mu.Unlock()

		started := time.Now()
		err := m.run(ctx, t, change)
		ended(err)
		m.finish(t, r, err, time.Since(started))
	}
}

// errPaused ends a task that may not run now.
var errPaused = errors.New("the store takes no mirrored writes now")

// start tells the tracer, if there is one, that t runs; m.mu is held.
func (m *mirror) start(t *task) (context.Context, func(error)) {
	if m.core.tracer == nil {
		return m.core.ctx, func(error) {}
	}
	return m.core.tracer.Start(m.core.ctx, kv.Work{
		Op: "mirror", Backend: m.core.stores[t.direction.to].name, Range: kv.KeyRange(t.key), Callers: slices.Clone(t.callers),
	})
}

func (m *mirror) run(ctx context.Context, t *task, change *side.Change) error {
	state, guards := m.core.selector.mirroring(t.direction.to)
	if state != mirrorOn {
		return errPaused
	}
	to := t.direction.to
	copying := side.Task{From: m.core.stores[other(to)].side, To: m.core.stores[to].side, Guards: guards, Equal: m.core.equal}
	_, err := copying.CopyChange(ctx, t.key, change)
	return err
}

// finish notes how a run ended that r waited for.
func (m *mirror) finish(t *task, r chan struct{}, err error, took time.Duration) {
	if isFenced(err) {
		m.core.selector.lost(t.direction.to)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r != nil {
		defer close(r)
	}
	d := t.direction
	if t.err = err; d.probe == t {
		d.probe = nil
	}
	if d.tasks[t.key] != t {
		return // dropped meanwhile
	}
	if err == nil {
		d.mirrored++
		t.callers = t.callers[t.tried:]
		m.succeeded(d, t)
	} else {
		m.failed(d, t, err)
	}
	m.core.observer.Mirrored(m.core.stores[d.to].name, took, err)
	m.observe(d)
}

// succeeded ends t, unless its key was written meanwhile; m.mu is held.
func (m *mirror) succeeded(d *direction, t *task) {
	if t.next != nil {
		t.since = time.Now()
		if d.state == mirrorOn {
			m.enqueue(t)
		} else {
			m.putOff(t)
		}
	} else {
		delete(d.tasks, t.key)
		if len(d.tasks) == 0 {
			close(d.emptied)
			d.emptied = make(chan struct{})
		}
	}
	switch {
	case d.dead:
		d.lastErr = nil
		m.revive(d)
		m.core.log.Info("polykv: mirroring works again", "store", m.core.stores[d.to].name, "backlog", len(d.tasks))
	case d.backlog.Len() == 0:
		d.lastErr = nil
		d.pause.Reset()
	}
}

// failed puts t off; m.mu is held.
func (m *mirror) failed(d *direction, t *task, err error) {
	m.putOff(t)
	if errors.Is(err, errPaused) || isFenced(err) {
		return // not a failure: the records say what comes of it
	}
	d.failed++
	d.lastErr = err
	if holdsForAll(err) {
		m.fail(d, err)
		return
	}
	if d.dead {
		m.revive(d) // the store answers
	}
	m.core.log.Warn("polykv: a key can't be mirrored", "store", m.core.stores[d.to].name, "key", t.key, "error", err)
}

// holdsForAll reports whether err, of mirroring one key, is to be expected of
// every other key.
func holdsForAll(err error) bool {
	return side.IsAny(err, kv.ErrUnavailable, kv.ErrIndeterminate, kv.ErrPermission, kv.ErrClosed, context.Canceled, context.DeadlineExceeded)
}
