package conformance

import (
	"testing"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// memory is the harness of the in-memory store.
func memory() Harness {
	return Driver(func(T) Opener {
		s := inmemory.NewStore()
		return func() (driver.Store, error) { return s.Open(), nil }
	})
}

func TestMemory(t *testing.T) { Run(t, memory()) }
