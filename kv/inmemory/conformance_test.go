package inmemory_test

import (
	"testing"

	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

func harness() conformance.Harness {
	return conformance.Driver(func(conformance.T) conformance.Opener {
		s := inmemory.NewStore()
		return func() (driver.Store, error) { return s.Open(), nil }
	}).Declared("inmemory")
}

func TestConformance(t *testing.T) { conformance.Run(t, harness()) }

func BenchmarkConformance(b *testing.B) { conformance.RunBenchmarks(b, harness()) }
