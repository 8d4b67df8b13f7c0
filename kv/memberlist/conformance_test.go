package memberlist

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// loopbackHarness is the conformance suite on two nodes whose changes reach
// each other at once.
func loopbackHarness(tb testing.TB) conformance.Harness {
	h := conformance.Harness{
		New: func(conformance.T) conformance.Store {
			here, there := newLoopback(tb, nil), newLoopback(tb, nil)
			join(here, there)
			return conformance.Store{
				Open:          here.clients.new,
				OpenElsewhere: there.clients.new,
				Plant: func(_ context.Context, key string, value []byte) error {
					return plant(there.store, key, value)
				},
			}
		},
	}
	return h.Declared("memberlist")
}

// plant writes bytes under any key, past the engine.
func plant(s *state.Store, key string, value []byte) error {
	v, err := s.View(codec.Bytes{})
	if err != nil {
		return err
	}
	var prev any
	now := s.Get(key)
	if now != nil {
		prev = now
	}
	object, err := v.Object(key, prev, value, 0)
	if err != nil {
		return err
	}
	var version kv.Version
	if now != nil {
		version = now.Seq()
	}
	_, ok, err := s.Swap(key, version, object)
	if err == nil && !ok {
		err = errors.New("somebody else wrote it")
	}
	return err
}

// nodesHarness is the suite on two nodes that find each other, over a network
// in memory.
func nodesHarness(tb testing.TB) conformance.Harness {
	h := loopbackHarness(tb)
	codecs := testCodecs(tb)
	h.New = func(t conformance.T) conformance.Store {
		fabric := network.NewFabric(1)
		start := func(name string, join ...string) *Node {
			cfg := nodeConfig(name)
			cfg.Join = join
			n, err := StartWith(t.Context(), cfg, Options{Logger: slog.New(slog.DiscardHandler), fabric: fabric}, codecs...)
			if err != nil {
				t.Fatalf("start %s: %v", name, err)
			}
			t.Cleanup(func() { _ = n.Close() })
			return n
		}
		here := start("here")
		there := start("there", here.Address())
		open := func(n *Node) func(codec.Codec, kv.Options) (kv.Client, error) {
			return func(c codec.Codec, o kv.Options) (kv.Client, error) { return n.Client(c, &o) }
		}
		return conformance.Store{
			Open:          open(here),
			OpenElsewhere: open(there),
			Plant: func(_ context.Context, key string, value []byte) error {
				return plant(here.store, key, value)
			},
		}
	}
	return h
}

func TestConformance(t *testing.T) { conformance.Run(t, nodesHarness(t)) }

// TestConformanceOfState is the suite without a network: what fails here is the
// state's fault.
func TestConformanceOfState(t *testing.T) { conformance.Run(t, loopbackHarness(t)) }

// TestConformanceOfOneNode runs what the suite asks of a store that is not
// spread over nodes, linearizable histories among others: the clients of one
// node get all of it.
func TestConformanceOfOneNode(t *testing.T) {
	h := loopbackHarness(t)
	h.Features.PerNode, h.Hooks = false, []conformance.Hook{conformance.HookPlant}
	two := h.New
	h.New = func(t conformance.T) conformance.Store {
		s := two(t)
		s.OpenElsewhere = nil
		return s
	}
	h.Rules = []string{"G1", "L1", "D1", "C1", "C2", "C3", "C5", "C6", "C7", "W4"}
	conformance.Run(t, h)
}
