package bolt_test

import (
	"path/filepath"
	"testing"

	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/drivers/bolt"
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
	h.Hooks = []conformance.Hook{conformance.HookOpenLine, conformance.HookOpenDriver, conformance.HookPlant}
	return h
}

// TestConformance doesn't wait for the disk, which takes most of the time of a
// write and changes nothing that a client can see.
func TestConformance(t *testing.T) { conformance.Run(t, harness(true)) }

// TestConformanceSynced runs the driver as users do, with a fifth of the writes
// where cases are about their number.
func TestConformanceSynced(t *testing.T) {
	h := harness(false)
	h.Scale = 0.2
	conformance.Run(t, h)
}
