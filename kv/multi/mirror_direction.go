package multi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
)

// schedule sets the time of the next retry in a direction; m.mu is held.
func (m *mirror) schedule(d *direction) {
	d.retryAt = time.Now().Add(d.pause.Take())
	wait.Signal(m.wake)
}

// revive takes a store for one that answers and has its backlog run; m.mu is held.
func (m *mirror) revive(d *direction) {
	d.dead, d.probe, d.retryAt = false, nil, time.Time{}
	d.pause.Reset()
	m.resume(d)
}

// resume has everything in the backlog of a direction that is on run; m.mu is held.
func (m *mirror) resume(d *direction) {
	for el := d.backlog.Front(); el != nil; el = d.backlog.Front() {
		t, _ := d.backlog.Remove(el).(*task)
		m.enqueue(t)
	}
}

// set changes what may be mirrored into a store.
func (m *mirror) set(to int, state mirrorState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.directions[to]
	was := d.state
	d.state = state
	switch state {
	case mirrorOff:
		m.drop(d)
	case mirrorOn:
		if was != mirrorOn || !d.dead {
			m.revive(d)
		}
	}
	m.observe(d)
}

// drop forgets every task of a direction; m.mu is held. Those that are running end
// by themselves.
func (m *mirror) drop(d *direction) {
	for _, t := range d.tasks {
		switch {
		case t.place == nil:
		case t.waiting:
			d.backlog.Remove(t.place)
		default:
			m.queue.Remove(t.place)
		}
		t.release()
	}
	clear(d.tasks)
	d.dead, d.probe, d.retryAt, d.lastErr = false, nil, time.Time{}, nil
	close(d.emptied)
	d.emptied = make(chan struct{})
}

// abandon lets go of whoever waits, for Close.
func (m *mirror) abandon() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, d := range m.directions {
		m.drop(d)
	}
}

// retries runs what is in the backlogs when its time has come.
func (m *mirror) retries() {
	for {
		select {
		case <-time.After(m.due(time.Now())):
		case <-m.wake:
		case <-m.core.ctx.Done():
			return
		}
	}
}

// due starts the retries whose time has come, and returns how long there is
// until the next one.
func (m *mirror) due(now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := time.Hour
	for _, d := range m.directions {
		if d.retryAt.IsZero() || d.state != mirrorOn {
			continue
		}
		if left := d.retryAt.Sub(now); left > 0 {
			next = min(next, left)
			continue
		}
		m.retry(d)
	}
	return next
}

// retry tries one task of a dead direction, all of another's; m.mu is held.
func (m *mirror) retry(d *direction) {
	d.retryAt = time.Time{}
	if !d.dead {
		m.resume(d)
		return
	}
	el := d.backlog.Front()
	if d.probe != nil || el == nil {
		if el == nil && len(d.tasks) == 0 {
			d.dead = false // nothing to try it by: the next write will
		}
		return
	}
	d.probe, _ = d.backlog.Remove(el).(*task)
	m.enqueue(d.probe)
}

// drain waits until nothing is left to mirror into a store. What waits for a
// retry is tried at once, and then with the pauses of retries.
func (m *mirror) drain(ctx context.Context, to int) error {
	for first := true; ; first = false {
		m.mu.Lock()
		d := m.directions[to]
		if len(d.tasks) == 0 {
			m.mu.Unlock()
			return nil
		}
		if first && d.state == mirrorOn {
			m.revive(d)
		}
		emptied := d.emptied
		m.mu.Unlock()
		select {
		case <-emptied:
		case <-m.core.ctx.Done():
			return kv.ErrClosed
		case <-ctx.Done():
			return m.undone(ctx, to)
		}
	}
}

// drainAll is for Close: it waits for what is left to mirror, for a while, and
// says what still is.
func (m *mirror) drainAll() {
	ctx, cancel := context.WithTimeout(m.core.ctx, m.core.cfg.DrainTimeout)
	defer cancel()
	for to := range m.directions {
		for !m.drained(ctx, to) {
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.directions {
		if len(d.tasks) > 0 && d.state != mirrorOff {
			m.core.log.Warn("polykv: closed before everything was mirrored; a repair of another client will", "store", m.core.stores[d.to].name,
				"keys", len(d.tasks), "first", firstKeys(d.tasks), "error", m.whyLeft(d))
		}
	}
}

// whyLeft says why Close leaves d's tasks undone; m.mu is held.
func (m *mirror) whyLeft(d *direction) error {
	switch {
	case d.lastErr != nil:
		return d.lastErr
	case d.state == mirrorPaused:
		return errPaused
	default: // the first attempt is under way still
		return fmt.Errorf("not done within %v", m.core.cfg.DrainTimeout)
	}
}

// drained waits until something changed in a direction, and reports whether there is
// nothing more to wait for.
func (m *mirror) drained(ctx context.Context, to int) bool {
	m.mu.Lock()
	d := m.directions[to]
	over := len(d.tasks) == 0 || d.dead || d.state == mirrorOff
	emptied := d.emptied
	m.mu.Unlock()
	if over {
		return true
	}
	select {
	case <-emptied:
	case <-time.After(20 * time.Millisecond): // the store may have died
	case <-ctx.Done():
		return true
	}
	return false
}

// namedKeys is how many keys a line of the log names.
const namedKeys = 10

// firstKeys are some of the keys of tasks, sorted.
func firstKeys(tasks map[string]*task) []string {
	keys := slices.Sorted(maps.Keys(tasks))
	return keys[:min(namedKeys, len(keys))]
}

// undone says what is left to mirror into a store, and why.
func (m *mirror) undone(ctx context.Context, to int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, t := range m.directions[to].tasks {
		if t.err != nil {
			return fmt.Errorf("%w: %d keys are left, %q among them: %w", ctxError(ctx), len(m.directions[to].tasks), key, t.err)
		}
	}
	return fmt.Errorf("%w: %d keys are left", ctxError(ctx), len(m.directions[to].tasks))
}

// observe tells the observer how much is left; m.mu is held.
func (m *mirror) observe(d *direction) {
	m.core.observer.Backlog(m.core.stores[d.to].name, len(d.tasks))
}
