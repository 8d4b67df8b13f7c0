package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// A driver's test opens handles on an empty store for each case.
func ExampleRun() {
	test := func(t *testing.T) { // TestConformance in the driver's package
		conformance.Run(t, conformance.Driver(func(conformance.T) conformance.Opener {
			s := inmemory.NewStore()
			return func() (driver.Store, error) { return s.Open(), nil }
		}))
	}
	_ = test
}

// A store that has no guards says so, and what it then must do is checked.
func ExampleFeatures() {
	h := conformance.Driver(func(conformance.T) conformance.Opener {
		s := inmemory.NewStore()
		return func() (driver.Store, error) { return s.Open(), nil }
	})
	h.Features = conformance.Features{Lacks: []conformance.Extra{conformance.Guarded}}
	fmt.Println(h.Features.Lacks)
	// Output: [Guarded]
}

// A line that breaks is of use in tests of a program, too.
func ExampleBreakable() {
	line := conformance.Breakable(inmemory.NewStore().Open())
	c := kv.New(line, codec.String{}, nil)
	defer func() { fmt.Println("closed:", c.Close()) }()
	ctx := context.Background()

	line.Cut()
	fmt.Println("away:", errors.Is(kv.Ping(ctx, c), kv.ErrUnavailable))
	line.Mend()

	line.OnWrite(func(carryOut func()) (answer bool) {
		carryOut()
		return false // the write arrives, its answer does not
	})
	err := c.CAS(ctx, "k", func(any) (any, bool, error) { return "v", false, nil })
	fmt.Println("unknown:", errors.Is(err, kv.ErrIndeterminate))
	value, err := c.Get(ctx, "k")
	fmt.Println(value, err)
	// Output:
	// away: true
	// unknown: true
	// v <nil>
	// closed: <nil>
}
