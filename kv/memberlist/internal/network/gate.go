package network

import "sync"

// gate lets calls of memberlist's goroutines through until it is closed: those
// goroutines can't be waited for, what they call can.
type gate struct {
	mu     sync.Mutex
	calls  sync.WaitGroup
	closed bool
}

// run calls f unless the gate is closed, and tells whether it did.
func (g *gate) run(f func()) bool {
	g.mu.Lock()
	open := !g.closed
	if open {
		g.calls.Add(1)
	}
	g.mu.Unlock()
	if open {
		defer g.calls.Done()
		f()
	}
	return open
}

// close waits for the calls that are under way; no others follow.
func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.calls.Wait()
}
