package conformance

import (
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/inmemory"
)

// perNode is a harness that declares per-node rules, of nodes that converge at
// once, by having one store, or never.
func perNode(converge bool) Harness {
	return Harness{
		Features: Features{PerNode: true},
		New: func(T) Store {
			here := inmemory.NewStore()
			there := here
			if !converge {
				there = inmemory.NewStore()
			}
			opener := func(s *inmemory.Store) openFunc {
				return func(c codec.Codec, o kv.Options) (kv.Client, error) {
					return nodeClient{kv.Forward{Client: kv.New(s.Open(), c, &o)}}, nil
				}
			}
			return Store{Open: opener(here), OpenElsewhere: opener(there)}
		},
	}
}

// nodeClient says what a client of one node among others says.
type nodeClient struct{ kv.Forward }

func (nodeClient) Linearizable() bool { return false }

func (c nodeClient) Raw() (kv.Client, error) { return around(c.Forward.Raw()) }

func (c nodeClient) WithCodec(cdc codec.Codec) (kv.Client, error) {
	return around(c.Forward.WithCodec(cdc))
}

func around(view kv.Client, err error) (kv.Client, error) {
	return nodeClient{kv.Forward{Client: view}}, err
}

// TestPerNode runs what is left of the suite for nodes that converge, and the
// fallbacks instead of the rest.
func TestPerNode(t *testing.T) { Run(t, perNode(true)) }
