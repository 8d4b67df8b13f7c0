package multi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/polykv/polykv/kv"
)

// schedule sets the time of the next retry in a direction; m.mu is held.
func (m *mirror) schedule(l *direction) {
	l.retryAt = time.Now().Add(l.pause.NextBackOff())
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// revive takes a store for one that answers and has its backlog run; m.mu is held.
func (m *mirror) revive(l *direction) {
	l.dead, l.probing, l.retryAt = false, false, time.Time{}
	l.pause.Reset()
	m.resume(l)
}

// resume has everything in the backlog of a direction that is on run; m.mu is held.
func (m *mirror) resume(l *direction) {
	for el := l.backlog.Front(); el != nil; el = l.backlog.Front() {
		t, _ := l.backlog.Remove(el).(*task)
		m.enqueue(t)
	}
}

// set changes what may be mirrored into a store.
func (m *mirror) set(to int, state mirrorState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.directions[to]
	was := l.state
	l.state = state
	switch state {
	case mirrorOff:
		m.drop(l)
	case mirrorOn:
		if was != mirrorOn || !l.dead {
			m.revive(l)
		}
	}
	m.observe(l)
}

// drop forgets every task of a direction; m.mu is held. Those that are running end
// by themselves.
func (m *mirror) drop(l *direction) {
	for _, t := range l.tasks {
		switch {
		case t.place == nil:
		case t.waiting:
			l.backlog.Remove(t.place)
		default:
			m.queue.Remove(t.place)
		}
		t.release()
	}
	clear(l.tasks)
	l.dead, l.probing, l.retryAt, l.lastErr = false, false, time.Time{}, nil
	close(l.emptied)
	l.emptied = make(chan struct{})
}

// abandon lets go of whoever waits, for Close.
func (m *mirror) abandon() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for _, l := range m.directions {
		m.drop(l)
	}
}

// retries runs what is in the backlogs when its time has come.
func (m *mirror) retries() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(m.due(time.Now()))
		select {
		case <-timer.C:
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
	for _, l := range m.directions {
		if l.retryAt.IsZero() || l.state != mirrorOn {
			continue
		}
		if left := l.retryAt.Sub(now); left > 0 {
			next = min(next, left)
			continue
		}
		m.retry(l)
	}
	return next
}

// retry tries one task of a dead direction, all of another's; m.mu is held.
func (m *mirror) retry(l *direction) {
	l.retryAt = time.Time{}
	if !l.dead {
		m.resume(l)
		return
	}
	el := l.backlog.Front()
	if l.probing || el == nil {
		if el == nil && len(l.tasks) == 0 {
			l.dead = false // nothing to try it by: the next write will
		}
		return
	}
	t, _ := l.backlog.Remove(el).(*task)
	l.probing = true
	t.probe = true
	m.enqueue(t)
}

// drain waits until nothing is left to mirror into a store. What waits for a
// retry is tried at once, and then with the pauses of retries.
func (m *mirror) drain(ctx context.Context, to int) error {
	for first := true; ; first = false {
		m.mu.Lock()
		l := m.directions[to]
		if len(l.tasks) == 0 {
			m.mu.Unlock()
			return nil
		}
		if first && l.state == mirrorOn {
			m.revive(l)
		}
		emptied := l.emptied
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
	for _, l := range m.directions {
		if len(l.tasks) > 0 && l.state != mirrorOff {
			m.core.log.Warn("polykv: closed before everything was mirrored; a repair of another client will", "store", m.core.stores[l.to].name,
				"keys", len(l.tasks), "first", firstKeys(l.tasks), "error", l.lastErr)
		}
	}
}

// drained waits until something changed in a direction, and reports whether there is
// nothing more to wait for.
func (m *mirror) drained(ctx context.Context, to int) bool {
	m.mu.Lock()
	l := m.directions[to]
	over := len(l.tasks) == 0 || l.dead || l.state == mirrorOff
	emptied := l.emptied
	m.mu.Unlock()
	if over {
		return true
	}
	recheck := time.NewTimer(20 * time.Millisecond) // the store may have died
	defer recheck.Stop()
	select {
	case <-emptied:
	case <-recheck.C:
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
func (m *mirror) observe(l *direction) {
	m.core.observer.Backlog(m.core.stores[l.to].name, len(l.tasks))
}
