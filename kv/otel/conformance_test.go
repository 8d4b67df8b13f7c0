package kvotel_test

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	kvotel "github.com/polykv/polykv/kv/otel"
)

// A client that is traced from both sides is a client like any other.
func TestConformance(t *testing.T) {
	tracing := kvotel.New(kvotel.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewNoopExporter()))))
	h := conformance.Driver(func(conformance.T) conformance.Opener {
		s := inmemory.NewStore()
		return func() (driver.Store, error) { return s.Open(), nil }
	})
	inner := h.New
	h.New = func(t conformance.T) conformance.Store {
		s := inner(t)
		open := s.Open
		s.Open = func(cdc codec.Codec, o kv.Options) (kv.Client, error) {
			o.Observer = kv.Observers(o.Observer, tracing)
			c, err := open(cdc, o)
			if err != nil {
				return nil, err
			}
			return tracing.Wrap(c, "memory"), nil
		}
		return s
	}
	conformance.Run(t, h)
}
