package factory

import (
	"time"

	"github.com/polykv/polykv/kv"
)

// both returns an observer that tells a, which may be nil, and b.
func both(a, b kv.Observer) kv.Observer {
	if a == nil {
		return b
	}
	return observers{a, b}
}

type observers [2]kv.Observer

func (o observers) Request(op string, d time.Duration, err error) {
	for _, each := range o {
		each.Request(op, d, err)
	}
}

func (o observers) Swap(outcome string, callers int) {
	for _, each := range o {
		each.Swap(outcome, callers)
	}
}

func (o observers) CAS(callbacks int, err error) {
	for _, each := range o {
		each.CAS(callbacks, err)
	}
}

func (o observers) WatchEvent(kind string, lag time.Duration) {
	for _, each := range o {
		each.WatchEvent(kind, lag)
	}
}

func (o observers) WatchResync(err error) {
	for _, each := range o {
		each.WatchResync(err)
	}
}

func (o observers) Skipped(key string) {
	for _, each := range o {
		each.Skipped(key)
	}
}
