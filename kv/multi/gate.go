package multi

import (
	"context"
	"sync"

	"github.com/polykv/polykv/kv"
)

// gate lets writes in, counts those inside, and can be shut.
type gate struct {
	mu       sync.Mutex
	closings uint64 // how often it was shut
	inside   int
	opened   chan struct{} // not nil while the gate is shut; closed when it opens
	empty    chan struct{} // not nil while somebody waits for it to be empty
}

// enter waits until the gate is open.
func (g *gate) enter(ctx, closing context.Context) (*permit, error) {
	for {
		g.mu.Lock()
		opened := g.opened
		if opened == nil {
			g.inside++
			p := &permit{gate: g, closings: g.closings, inside: true}
			g.mu.Unlock()
			return p, nil
		}
		g.mu.Unlock()
		select {
		case <-opened:
		case <-ctx.Done():
			return nil, ctxError(ctx)
		case <-closing.Done():
			return nil, kv.ErrClosed
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		close(g.empty) // nobody comes in any more until the gate is reopened
	}
}

func (g *gate) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened != nil
}

// close shuts the gate and waits until nobody is inside. If that fails the gate
// is open again. One caller at a time.
func (g *gate) close(ctx, closing context.Context) error {
	g.mu.Lock()
	g.opened = make(chan struct{})
	g.closings++
	empty := make(chan struct{})
	if g.inside == 0 {
		close(empty)
	} else {
		g.empty = empty
	}
	g.mu.Unlock()
	var err error
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		err = ctxError(ctx)
	case <-closing.Done():
		err = kv.ErrClosed
	}
	g.reopen()
	return err
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.opened)
	g.opened, g.empty = nil, nil
}

// permit is one write's leave to be inside a gate, until the gate is shut for the
// next time. A nil permit needs no gate. It is used by one goroutine.
type permit struct {
	gate     *gate
	closings uint64
	inside   bool
}

// out leaves the gate, if p is inside.
func (p *permit) out() {
	if p != nil && p.inside {
		p.inside = false
		p.gate.leave()
	}
}

// in goes back inside; false means that the gate has been shut since p was
// given, so that another store may be primary by now.
func (p *permit) in() bool {
	if p == nil || p.inside {
		return true
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if p.gate.closings != p.closings {
		return false
	}
	p.gate.inside++
	p.inside = true
	return true
}

// expired reports whether the gate has been shut since p was given.
func (p *permit) expired() bool {
	if p == nil {
		return false
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	return p.gate.closings != p.closings
}
