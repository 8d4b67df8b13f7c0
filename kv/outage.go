package kv

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// outages tells the log when a client's watches lose the store and when all are
// back, once for all of them.
type outages struct {
	e *engine

	mu      sync.Mutex
	away    int  // watch sessions that are not in step after a failure
	log     bool // it was logged
	refused bool // as one that lasts until somebody does something
	began   time.Time
	watches int // that lost the store, one counted as often as it did
	tries   int // that failed
	calm    *time.Timer
}

// calmFor is how long all sessions must have been in step for an outage to be
// over. One after another finds back, and some lose the store again.
const calmFor = time.Second

// begun notes that a session of r ended; first, that it had been in step or was
// the first one.
func (o *outages) begun(r Range, err error, first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tries++
	if first {
		o.away++
		o.watches++
	}
	if o.calm != nil {
		o.calm.Stop()
		o.calm = nil
	}
	refused := driver.IsPermanent(err) || errors.Is(err, ErrMissed)
	if opts := &o.e.opts; !o.log || refused && !o.refused {
		if !o.log {
			o.began = time.Now()
		}
		level := slog.LevelInfo
		if refused {
			level = slog.LevelWarn // somebody must do something about it
		}
		o.log, o.refused = true, refused
		opts.Logger.Log(context.Background(), level, "polykv: watches lost the store and start again until they are back; more at level DEBUG",
			"backend", opts.Backend, "key", r.Key, "prefix", r.IsPrefix, "error", err)
	}
}

// over notes that a session of r is in step again, or is not needed any more.
func (o *outages) over(r Range) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away--; o.away == 0 {
		o.refused = false
	}
	o.e.opts.Logger.Debug("polykv: a watch is in step again", "backend", o.e.opts.Backend, "key", r.Key, "prefix", r.IsPrefix)
	if o.away == 0 && o.calm == nil {
		o.calm = time.AfterFunc(calmFor, o.settled)
	}
}

// settled logs the end of an outage.
func (o *outages) settled() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.away > 0 || !o.log || o.calm == nil {
		return
	}
	o.e.opts.Logger.Info("polykv: the watches are in step again", "backend", o.e.opts.Backend,
		"lasted", time.Since(o.began).Round(time.Millisecond), "watches", o.watches, "failures", o.tries)
	o.log, o.watches, o.tries, o.calm = false, 0, 0, nil
}

// close keeps settled from being called once the client is closed.
func (o *outages) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.calm != nil {
		o.calm.Stop()
		o.calm = nil
	}
}
