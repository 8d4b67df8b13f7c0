package network

import "sync"

// gate lets calls of memberlist's goroutines through until it is closed: those
// goroutines can't be waited for, what they call can.
type gate struct {
	mu     sync.Mutex
	idle   *sync.Cond
	active int
	closed bool
}

func newGate() *gate {
	g := &gate{}
	g.idle = sync.NewCond(&g.mu)
	return g
}

// run calls f unless the gate is closed.
func (g *gate) run(f func()) {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.active++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.active--; g.active == 0 {
			g.idle.Broadcast()
		}
	}()
	f()
}

// close waits for the calls that are under way; no others follow.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for g.active > 0 {
		g.idle.Wait()
	}
}
