package conformance_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/metrics"
)

// TestWrappers runs the whole suite over the in-memory store with each wrapper,
// and with wrappers over wrappers.
func TestWrappers(t *testing.T) {
	measured, err := metrics.New(prometheus.NewRegistry(), metrics.Options{})
	if err != nil {
		t.Fatal(err)
	}
	memory := conformance.Driver(func(conformance.T) conformance.Opener {
		s := inmemory.NewStore()
		return func() (driver.Store, error) { return s.Open(), nil }
	})
	byMetrics := conformance.Wrapper{
		Name: "metrics",
		Wrap: func(c kv.Client) (kv.Client, error) { return measured.Wrap(c, "memory"), nil },
	}
	everything := memory
	for _, w := range append([]conformance.Wrapper{byMetrics}, conformance.Wrappers()...) {
		t.Run(w.Name, func(t *testing.T) { conformance.Run(t, memory.Wrapped(w)) })
		everything = everything.Wrapped(w)
	}
	t.Run("all", func(t *testing.T) { conformance.Run(t, everything) })
}

// TestFenced runs the suite over clients that a fence lies around, which holds.
func TestFenced(t *testing.T) {
	conformance.Run(t, conformance.Harness{New: func(t conformance.T) conformance.Store {
		s := inmemory.NewStore()
		raw, err := kv.Raw(kv.New(s.Open(), codec.Bytes{}, nil))
		if err != nil {
			t.Fatalf("Raw: %v", err)
		}
		defer raw.Close()
		versions, err := kv.Versioned(raw)
		if err != nil {
			t.Fatalf("Versioned: %v", err)
		}
		const fence = kv.ReservedSegment + "/fence"
		version, err := versions.SwapVersion(t.Context(), fence, 0, []byte("up"))
		if err != nil {
			t.Fatalf("putting up the fence: %v", err)
		}
		return conformance.Store{Open: func(c codec.Codec, o kv.Options) (kv.Client, error) {
			return kv.Fenced(kv.New(s.Open(), c, &o), kv.Guard{Key: fence, Version: version})
		}}
	}})
}
