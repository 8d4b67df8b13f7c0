package kv_test

import (
	"context"
	"testing"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

// TestAllocations bounds what the engine allocates where it is all the cost
// that there is: on a store in memory. Of what is counted for a CAS, encoding and
// decoding take two, and the store one for the new record.
func TestAllocations(t *testing.T) {
	c := kv.New(inmemory.NewStore().Open(), stringCodec, nil)
	defer func() { _ = c.Close() }()
	ctx := context.Background()
	a, b := "a value of some length", "another value of some length"
	if err := c.CAS(ctx, "k", func(any) (any, bool, error) { return a, false, nil }); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		most float64
		call func() error
	}{
		{"Get", 2, func() error { _, err := c.Get(ctx, "k"); return err }},
		{"CAS", 5, func() error {
			return c.CAS(ctx, "k", func(in any) (any, bool, error) {
				if in == a {
					return b, false, nil
				}
				return a, false, nil
			})
		}},
		{"CAS that writes nothing", 2, func() error {
			return c.CAS(ctx, "k", func(any) (any, bool, error) { return nil, false, nil })
		}},
	} {
		var err error
		if got := testing.AllocsPerRun(100, func() { err = test.call() }); got > test.most {
			t.Errorf("%s: %v allocations, at most %v are wanted", test.name, got, test.most)
		}
		if err != nil {
			t.Error(err)
		}
	}
}
