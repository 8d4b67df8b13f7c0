package kvotel_test

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	kvotel "github.com/polykv/polykv/kv/otel"
)

// BenchmarkCAS is what tracing costs where there is nothing else to pay for: a
// store in memory. "off" is a client without it.
func BenchmarkCAS(b *testing.B) {
	for _, c := range []struct {
		name    string
		sampler sdktrace.Sampler
	}{{"off", nil}, {"never sampled", sdktrace.NeverSample()}, {"always sampled", sdktrace.AlwaysSample()}} {
		b.Run(c.name, func(b *testing.B) { benchmarkCAS(b, c.sampler) })
	}
}

func benchmarkCAS(b *testing.B, sampler sdktrace.Sampler) {
	client := kv.New(inmemory.NewStore().Open(), codec.String{}, nil)
	if sampler != nil {
		tracing := kvotel.New(kvotel.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler))))
		client = tracing.Wrap(kv.New(inmemory.NewStore().Open(), codec.String{}, &kv.Options{Observer: tracing}), "inmemory")
	}
	defer client.Close()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := client.CAS(b.Context(), "k", put("ab"[i%2:i%2+1])); err != nil {
			b.Fatal(err)
		}
	}
}
