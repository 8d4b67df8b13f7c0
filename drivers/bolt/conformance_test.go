package bolt_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/drivers/bolt"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

// harness runs every case on a file of its own.
func harness(noSync bool) conformance.Harness {
	h := conformance.Driver(func(t conformance.T) conformance.Opener {
		var files bolt.Files
		cfg := *bolt.NewConfig()
		cfg.Path = filepath.Join(t.TempDir(), "data.db")
		cfg.NoSync = noSync
		return func() (driver.Store, error) { return files.Open(cfg) }
	})
	h.Hooks = []conformance.Hook{conformance.HookOpenLine, conformance.HookOpenDriver, conformance.HookPlant, conformance.HookLeases}
	return h
}

// TestConformance doesn't wait for the disk, which takes most of the time of a
// write and changes nothing that a client can see.
func TestConformance(t *testing.T) { conformance.Run(t, harness(true)) }

// TestConformanceSynced runs the driver as users do, with a fifth of the writes
// where cases are about their number. A disk that is busy, as a machine for tests
// often is, takes seconds for each write: there are few cases at a time, and their
// clients wait for longer than by default.
func TestConformanceSynced(t *testing.T) {
	h := harness(false)
	h.Scale, h.Parallel, h.Patience = 0.2, 2, 2*time.Minute
	stores := h.New
	h.New = func(t conformance.T) conformance.Store {
		s := stores(t)
		open := s.Open
		s.Open = func(c codec.Codec, o kv.Options) (kv.Client, error) {
			if o.AttemptTimeout == 0 {
				o.AttemptTimeout = time.Minute
			}
			return open(c, o)
		}
		return s
	}
	conformance.Run(t, h)
}
