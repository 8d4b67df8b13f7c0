package demo

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv"
)

// observer counts what the engines of all clients do.
type observer struct {
	kv.NopObserver
	writes    atomic.Int64 // swaps that were applied
	carried   atomic.Int64 // the calls that these carried
	conflicts atomic.Int64
	resyncs   atomic.Int64

	mu  sync.Mutex
	lag histogram // of watch events
}

// Swap implements kv.Observer.
func (o *observer) Swap(_ context.Context, _, outcome string, callers int) {
	switch outcome {
	case "applied":
		o.writes.Add(1)
		o.carried.Add(int64(callers))
	case "conflict":
		o.conflicts.Add(1)
	}
}

// WatchEvent implements kv.Observer.
func (o *observer) WatchEvent(_ context.Context, _, kind string, lag time.Duration) {
	if kind != "put" && kind != "delete" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lag.add(lag)
}

// WatchResync implements kv.Observer.
func (o *observer) WatchResync(context.Context, string, error) { o.resyncs.Add(1) }
