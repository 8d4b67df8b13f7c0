package multi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi/internal/side"
)

// errSwitching ends a CAS before its write, so that it can be made again on
// the other store.
var errSwitching = errors.New("the primary is being switched")

// manual is a selector that is switched by hand.
type manual struct {
	core  *core
	gate  gate
	route atomic.Pointer[route]

	switching sync.Mutex // one switch at a time
	mirrors   atomic.Bool
	heartbeat *heartbeat // of a client that reads what is wanted

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, when what standing returns changes
	problem string        // why what is wanted can't be done; "": it can
}

func newManual(c *core, first int) *manual {
	m := &manual{core: c, changed: make(chan struct{})}
	m.setRoute(first, 0)
	m.mirrors.Store(c.cfg.Mirror)
	m.direct()
	if c.wanted != nil {
		m.heartbeat = newHeartbeat(c, m, side.ModeWanted)
		c.start(m.heartbeat.run)
		c.start(func() { c.followWanted(m) })
	}
	return m
}

func (m *manual) setRoute(at int, epoch uint64) {
	r := &route{at: at, epoch: epoch}
	r.ctx, r.leave = context.WithCancel(m.core.ctx)
	m.route.Store(r)
}

// standing implements reporter.
func (m *manual) standing() (standing, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.route.Load().at
	s := standing{primary: m.core.stores[at].name, problem: m.problem}
	if m.mirrors.Load() {
		s.mirror = m.core.stores[other(at)].name
	}
	for i, store := range m.core.stores {
		s.listed[i] = store.raw != nil && (!store.gossip || m.core.stores[other(i)].gossip)
	}
	return s, m.changed
}

// sees implements reporter: there are no records.
func (m *manual) sees() (int, []side.Sight) { return 0, nil }

// notify has those look again who wait for what standing returns.
func (m *manual) notify() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.changed)
	m.changed = make(chan struct{})
}

// direct tells the mirror which way to go.
func (m *manual) direct() {
	at := m.route.Load().at
	into := mirrorOff
	if m.mirrors.Load() {
		into = mirrorOn
	}
	m.core.mirror.set(at, mirrorOff)
	m.core.mirror.set(other(at), into)
	m.core.observer.Standing(string(PhasePlain), m.core.stores[at].name, 0)
	m.notify()
}

func (m *manual) writing(ctx context.Context, _ *waiting) (*route, *permit, error) {
	p, err := m.gate.enter(ctx, m.core.ctx)
	if err != nil {
		return nil, nil, err
	}
	return m.route.Load(), p, nil
}

func (m *manual) reading(context.Context, *waiting) (*route, error) { return m.route.Load(), nil }

func (m *manual) again(_ *route, err error, _ *waiting) bool { return errors.Is(err, errSwitching) }

// confirm is for routes with guards, of which there are none.
func (m *manual) confirm(context.Context, *route) (bool, error) { return true, nil }

func (m *manual) mirroring(to int) (mirrorState, []kv.Guard) {
	if m.mirrors.Load() && to != m.route.Load().at {
		return mirrorOn, nil
	}
	return mirrorOff, nil
}

func (m *manual) limits() (int, bool) { return m.route.Load().at, false }

func (m *manual) lost(int) {}

func (m *manual) leave() {
	if m.core.wanted != nil {
		m.heartbeat.leave()
	}
}

func (m *manual) status(s *Status) {
	s.Phase = PhasePlain
	now, _ := m.standing()
	s.Problem = now.problem
	s.Primary = m.core.stores[m.route.Load().at].name
	if m.mirrors.Load() {
		s.Mirror = m.core.stores[other(m.route.Load().at)].name
	}
	if m.gate.isClosed() {
		s.Phase = PhaseSwitching
	}
}

// switchTo makes store at the primary.
func (m *manual) switchTo(ctx context.Context, at int) error {
	m.switching.Lock()
	defer m.switching.Unlock()
	was := m.route.Load()
	if was.at == at {
		return nil
	}
	if err := m.gate.close(ctx, m.core.ctx); err != nil {
		return fmt.Errorf("writes under way did not end: %w", err)
	}
	defer m.gate.reopen()
	if m.mirrors.Load() {
		if err := m.core.mirror.drain(ctx, at); err != nil {
			return fmt.Errorf("not everything could be mirrored into %q: %w", m.core.stores[at].name, err)
		}
	}
	// Watches leave the old store before anything is mirrored into it.
	was.leave()
	m.setRoute(at, was.epoch+1)
	m.direct()
	m.core.observer.Moved(m.core.stores[at].name)
	m.core.log.Info("polykv: the primary was switched", "from", m.core.stores[was.at].name, "to", m.core.stores[at].name)
	return nil
}

// setMirroring turns mirroring on or off. It reports whether it was off.
func (m *manual) setMirroring(on bool) (wasOff bool) {
	m.switching.Lock()
	defer m.switching.Unlock()
	was := m.mirrors.Swap(on)
	m.direct()
	return !was
}
