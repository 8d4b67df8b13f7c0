package kvotel_test

import (
	"context"
	"fmt"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	kvotel "github.com/polykv/polykv/kv/otel"
)

// A client that is traced from both sides: what the application asks for, and
// what the engine makes of it. A program exports by OTLP what is recorded here.
func Example() {
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	tracing := kvotel.New(kvotel.WithTracerProvider(provider))
	client := tracing.Wrap(kv.New(inmemory.NewStore().Open(), codec.String{}, &kv.Options{
		Backend:  "inmemory",
		Observer: tracing,
	}), "inmemory")
	defer client.Close()

	err := client.CAS(context.Background(), "greeting", func(any) (any, bool, error) { return "hello", false, nil })
	if err != nil {
		panic(err)
	}
	for _, span := range recorder.Ended() {
		fmt.Println(span.Name())
	}
	// Output:
	// store.get
	// kv.CAS callback
	// store.swap
	// kv.CAS
}
