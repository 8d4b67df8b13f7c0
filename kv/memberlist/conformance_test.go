package memberlist

import (
	"context"
	"errors"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// loopbackHarness is the conformance suite on two nodes whose changes reach
// each other at once.
func loopbackHarness(tb testing.TB) conformance.Harness {
	return conformance.Harness{
		Features: conformance.Features{PerNode: true, Lacks: []conformance.Extra{conformance.Guarded}},
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

func TestConformance(t *testing.T) { conformance.Run(t, loopbackHarness(t)) }

var _ kv.Client = (*client)(nil)
