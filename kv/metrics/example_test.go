package metrics_test

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/metrics"
)

// A client measured from both sides: what the application asks for, and what
// the engine makes of it.
func Example() {
	reg := prometheus.NewRegistry()
	m, err := metrics.New(reg, metrics.Options{})
	if err != nil {
		panic(err)
	}
	client := m.Wrap(kv.New(inmemory.NewStore().Open(), codec.String{}, &kv.Options{
		Backend:  "inmemory",
		Observer: m.Observer("inmemory"),
	}), "inmemory")
	defer client.Close()

	for range 3 {
		err := client.CAS(context.Background(), "greeting", func(any) (any, bool, error) {
			return "hello", false, nil
		})
		if err != nil {
			panic(err)
		}
	}

	families, err := reg.Gather()
	if err != nil {
		panic(err)
	}
	for _, family := range families {
		switch family.GetName() {
		case "polykv_operation_duration_seconds", "polykv_cas_callbacks":
			fmt.Println(family.GetName(), family.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
	// Output:
	// polykv_cas_callbacks 3
	// polykv_operation_duration_seconds 3
}
