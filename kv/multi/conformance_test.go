package multi_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/switchtest"
)

// plainHarness has multi-clients over two stores in memory, of which the first
// is primary. Lines lead to the primary.
func plainHarness(cfg multi.Config) conformance.Harness {
	return conformance.Harness{New: func(conformance.T) conformance.Store {
		first, second := inmemory.NewStore(), inmemory.NewStore()
		open := func(primary driver.Store, c codec.Codec, o kv.Options) (kv.Client, error) {
			mirror := o
			mirror.Observer = nil // mirrors are not what users ask for
			return multi.New(cfg, []multi.Backend{
				{Name: "first", Client: kv.New(primary, c, &o)},
				{Name: "second", Client: kv.New(second.Open(), c, &mirror)},
			}, multi.WithLogger(o.Logger))
		}
		return conformance.Store{
			Open: func(c codec.Codec, o kv.Options) (kv.Client, error) { return open(first.Open(), c, o) },
			OpenLine: func(c codec.Codec, o kv.Options) (kv.Client, conformance.Line, error) {
				line := conformance.Breakable(first.Open())
				client, err := open(line, c, o)
				return client, line, err
			},
			Plant: plantIn(first),
		}
	}}
}

// unswitched are the cases, or whole rules, during which the primary is not
// switched, with the reason.
var unswitched = map[string]string{
	"Guarded":            "versions don't outlive a switch: TestVersionsDoNotOutliveASwitch",
	"Versioned":          "versions don't outlive a switch",
	"F2":                 "versions don't outlive a switch",
	"Entries-current":    "versions don't outlive a switch",
	"C2-writes-nothing":  "versions don't outlive a switch",
	"Raw-reserved":       "reserved keys stay in their store",
	"K3-reserved-hidden": "reserved keys stay in their store",
	"X1-ends-waiting":    "who waits for a callback does not wait for it in the other store",
	"W7-counted":         "the engine's observer sees bytes once a watch has moved",
}

// All clients of a case share one client of two stores, which is switched to
// and fro in the middle of it.
func TestConformanceAmidSwitch(t *testing.T) {
	moves := switchtest.New(t, unswitched)
	names := [2]string{"first", "second"}
	conformance.Run(t, conformance.Harness{New: func(t conformance.T) conformance.Store {
		stores := [2]*inmemory.Store{inmemory.NewStore(), inmemory.NewStore()}
		backends := func(cdc codec.Codec, o kv.Options, wrap func(driver.Store) driver.Store) (b [2]multi.Backend) {
			for i, s := range stores {
				b[i] = multi.Backend{Name: names[i], Client: kv.New(wrap(s.Open()), cdc, &o)}
			}
			return b
		}
		own := backends(codec.Bytes{}, kv.Options{Logger: quiet}, func(s driver.Store) driver.Store { return s })
		shared, err := multi.New(multi.DefaultConfig(), own[:], multi.WithLogger(quiet))
		if err != nil {
			t.Fatalf("opening the shared client: %v", err)
		}
		t.Cleanup(func() { _ = shared.Close() })
		c := moves.During(t, func(target int) error {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			return shared.SetPrimary(ctx, names[target])
		})
		return conformance.Store{
			Open: func(cdc codec.Codec, o kv.Options) (kv.Client, error) {
				return shared.Share(backends(cdc, o, func(s driver.Store) driver.Store { return switchtest.Trigger{Store: s, Countdown: c} }))
			},
			Plant: plantIn(stores[:]...),
		}
	}})
	moves.Report(t)
}

func TestConformance(t *testing.T) {
	off := multi.DefaultConfig()
	off.Mirror = false
	async := multi.DefaultConfig()
	async.MirrorAsync = true
	for name, cfg := range map[string]multi.Config{"mirroring off": off, "mirroring on": multi.DefaultConfig(), "asynchronous": async} {
		t.Run(name, func(t *testing.T) {
			h := plainHarness(cfg)
			h.Brief = cfg.MirrorAsync && os.Getenv("POLYKV_SOAK") == "" // differs from "on" in waiting only
			conformance.Run(t, h)
		})
	}
}
