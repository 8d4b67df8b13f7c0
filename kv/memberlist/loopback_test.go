package memberlist

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// testCodecs are those of package conformance, and of the tests here.
func testCodecs(tb testing.TB) []codec.Codec {
	tb.Helper()
	codecs, err := conformance.Codecs()
	if err != nil {
		tb.Fatal(err)
	}
	return append(codecs, counts)
}

// counts is the codec of the maps in these tests.
var counts = MapCodec[string, int]{ID: "counts"}

// loopback is a node without a network.
type loopback struct {
	store   *state.Store
	clients *clients
}

func newLoopback(tb testing.TB, clock func() time.Time, codecs ...codec.Codec) *loopback {
	tb.Helper()
	if codecs == nil {
		codecs = testCodecs(tb)
	}
	store, err := state.New(state.Config{
		Instance: rand.Uint64() | 1, Codecs: codecs, Clock: clock, //nolint:gosec // names a node of a test
		MaxClockSkew: time.Minute, TombstoneTimeout: time.Hour, PartitionTolerance: 24 * time.Hour,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return &loopback{store: store, clients: newClients(store, 8<<20, func() error { return store.Health() })}
}

// join has what is written on each of nodes reach the others at once.
func join(nodes ...*loopback) {
	for _, from := range nodes {
		from.store.OnLocal(func(u state.Update) {
			for _, to := range nodes {
				if to != from {
					to.store.Apply(u, nil)
				}
			}
		})
	}
}
