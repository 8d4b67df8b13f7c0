package conformance

import (
	"testing"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// TestClientWithoutExtras runs what is left of the suite for a client that has
// kv.Client's methods only and says so.
func TestClientWithoutExtras(t *testing.T) {
	h := memory().Wrapped(Wrapper{
		Name: "nothing but a client",
		Wrap: func(c kv.Client) (kv.Client, error) { return onlyClient{c}, nil },
	})
	h.Features.Lacks = []Extra{Watch, Entries, Ping, Guarded, Versioned, Raw, Limits, Views}
	inner := h.New
	h.New = func(t T) Store {
		s := inner(t)
		s.Leases = false
		return s
	}
	Run(t, h)
}

// TestStoreWithoutGuards runs what is left of the suite for a driver that
// takes no guards and says so.
func TestStoreWithoutGuards(t *testing.T) {
	h := store(func(b *brokenStore) {
		b.limits = func(l driver.Limits) driver.Limits {
			l.Guards = 0
			return l
		}
	})
	h.Features.Lacks = []Extra{Guarded}
	Run(t, h)
}

// TestClientWithFixedOptions runs what is left of the suite for a client that
// heeds no options and says so.
func TestClientWithFixedOptions(t *testing.T) {
	h := settings(memory(), func(o *kv.Options) { *o = kv.Options{Logger: o.Logger} })
	h.Features.FixedOptions = true
	Run(t, h)
}
