package consul_test

import (
	"context"
	"slices"
	"testing"

	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/internal/testdisk"
	"github.com/polykv/polykv/internal/testserver"
)

// A server whose disk is full refuses writes, of which nothing is left.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := testdisk.New(t, "32m")
	h := harness(t, 1, testserver.Options{Dir: disk.Dir()}).Declared("consul")
	inner := h.New
	h.New = func(t conformance.T) conformance.Store {
		s := inner(t)
		s.Full = func(context.Context) (drain func(context.Context) error, err error) {
			return func(context.Context) error { return disk.Drain() }, disk.Fill()
		}
		return s
	}
	h.Hooks = append(slices.Clone(h.Hooks), conformance.HookFull)
	h.Rules = []string{"C8"}
	conformance.Run(t, h)
}
