package kv

import "time"

// Observer is told what the engine does, in plain Go types, so that this
// package links no metrics library; kv/metrics implements it for Prometheus.
// Methods are called concurrently and on hot paths: they must be quick and
// must not use the client. Embed [NopObserver] so that later additions don't
// break an implementation.
type Observer interface {
	// Request: one request to the store ended. op is "get", "scan" or "swap".
	// err is nil if the store answered, whatever the answer.
	Request(op string, d time.Duration, err error)

	// Swap: one swap was attempted for so many callers at once. outcome is
	// "applied", "conflict", "guard_broken", "not_applied" or "unknown".
	Swap(outcome string, callers int)

	// CAS: one call of CAS or Delete ended, after its callback ran so often.
	CAS(callbacks int, err error)

	// WatchEvent: a watch called its callback, so long after the event came
	// from the store. kind is "put", "delete", "synced", "interrupted" or
	// "undecodable".
	WatchEvent(kind string, lag time.Duration)

	// WatchResync: a watch lost its session for this reason and will start a
	// new one.
	WatchResync(err error)

	// Skipped: a key that breaks rule K1 was found in the store and left out.
	Skipped(key string)
}

// NopObserver does nothing.
type NopObserver struct{}

var _ Observer = NopObserver{}

// Request does nothing.
func (NopObserver) Request(string, time.Duration, error) {}

// Swap does nothing.
func (NopObserver) Swap(string, int) {}

// CAS does nothing.
func (NopObserver) CAS(int, error) {}

// WatchEvent does nothing.
func (NopObserver) WatchEvent(string, time.Duration) {}

// WatchResync does nothing.
func (NopObserver) WatchResync(error) {}

// Skipped does nothing.
func (NopObserver) Skipped(string) {}
