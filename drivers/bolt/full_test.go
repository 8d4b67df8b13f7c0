package bolt_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/drivers/bolt"
	"github.com/polykv/polykv/internal/testdisk"
	"github.com/polykv/polykv/kv/driver"
)

// A disk that is full refuses writes, of which nothing is left.
func TestFullDisk(t *testing.T) {
	disk := testdisk.New(t, "8m")
	h := conformance.Driver(func(t conformance.T) conformance.Opener {
		var files bolt.Files
		cfg := *bolt.NewConfig()
		cfg.Path = filepath.Join(disk.Dir(), "data.db")
		if err := os.MkdirAll(disk.Dir(), 0o700); err != nil {
			t.Fatalf("%v", err)
		}
		t.Cleanup(func() { _ = os.Remove(cfg.Path) })
		return func() (driver.Store, error) { return files.Open(cfg) }
	})
	inner := h.New
	h.New = func(t conformance.T) conformance.Store {
		s := inner(t)
		s.Full = func(context.Context) (drain func(context.Context) error, err error) {
			return func(context.Context) error { return disk.Drain() }, disk.Fill()
		}
		return s
	}
	h.Parallel, h.Rules = 1, []string{"C8"}
	h.Hooks = []conformance.Hook{conformance.HookOpenLine, conformance.HookOpenDriver, conformance.HookPlant, conformance.HookLeases, conformance.HookFull}
	conformance.Run(t, h)
}
