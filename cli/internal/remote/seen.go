package remote

import (
	"context"
	"sync"
	"time"

	"github.com/polykv/polykv/kv"
)

// seen is what an engine told its observer.
type seen struct {
	Swaps   []seenSwap  `json:"swaps,omitempty"`
	Events  []seenEvent `json:"events,omitempty"`
	Resyncs []string    `json:"resyncs,omitempty"`
}

type seenSwap struct {
	Outcome string `json:"outcome"`
	Callers int    `json:"callers"`
}

type seenEvent struct {
	Kind string        `json:"kind"`
	Lag  time.Duration `json:"lag"` // nanoseconds
}

// tell passes it on, without the keys and contexts, which stayed with the child.
func (s *seen) tell(observer kv.Observer) {
	if s == nil {
		return
	}
	ctx := context.Background()
	for _, swap := range s.Swaps {
		observer.Swap(ctx, "", swap.Outcome, swap.Callers)
	}
	for _, event := range s.Events {
		observer.WatchEvent(ctx, "", event.Kind, event.Lag)
	}
	for _, cause := range s.Resyncs {
		observer.WatchResync(ctx, "", &restated{text: cause})
	}
}

// gatherer keeps what the child's engine sees until a message takes it along:
// a message for each thing would cost more than the calls.
type gatherer struct {
	kv.NopObserver
	mu  sync.Mutex
	new *seen
}

// take returns what came since the last time, nil if nothing did.
func (g *gatherer) take() *seen {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.new
	g.new = nil
	return s
}

func (g *gatherer) add(add func(*seen)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.new == nil {
		g.new = &seen{}
	}
	add(g.new)
}

// Swap implements kv.Observer.
func (g *gatherer) Swap(_ context.Context, _, outcome string, callers int) {
	g.add(func(s *seen) { s.Swaps = append(s.Swaps, seenSwap{outcome, callers}) })
}

// WatchEvent implements kv.Observer.
func (g *gatherer) WatchEvent(_ context.Context, _, kind string, lag time.Duration) {
	g.add(func(s *seen) { s.Events = append(s.Events, seenEvent{kind, lag}) })
}

// WatchResync implements kv.Observer.
func (g *gatherer) WatchResync(_ context.Context, _ string, err error) {
	g.add(func(s *seen) { s.Resyncs = append(s.Resyncs, err.Error()) })
}
