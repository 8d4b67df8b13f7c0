package multi_test

import (
	"os"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
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
