package factory_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
)

// Instance and the codec beside it are those of README's example.
type Instance struct {
	ID, Address string
	Heartbeat   time.Time
}

type Ring = memberlist.Map[string, Instance]

var ringCodec = memberlist.MapCodec[string, Instance]{ID: "ring"}

func register(ctx context.Context, client kv.Client, self Instance) error {
	ring := kv.Typed[*Ring](client)
	return ring.Update(ctx, "ring", func(r *Ring, exists bool) (*Ring, kv.Action, error) {
		if !exists {
			r = memberlist.NewMap[string, Instance]()
		}
		r.Set(self.ID, self)
		return r, kv.Put, nil
	})
}

// README's ring keeps every update on every store, gossip included: its entries merge.
func TestRingKeepsEveryUpdate(t *testing.T) {
	const clients, updates = 3, 50
	for _, backend := range []string{"inmemory", "memberlist"} {
		t.Run(backend, func(t *testing.T) {
			opened := make([]kv.Client, clients)
			first := ""
			for i := range opened {
				cfg, deps := factory.NewConfig(), factory.Deps{}
				if backend == "inmemory" {
					cfg.Backend, cfg.InMemory.Name = "inmemory", t.Name()
				} else {
					gossiping := gossip(t, first).Memberlist
					gossiping.NodeName = fmt.Sprint("ring-", i)
					node, err := memberlist.Start(t.Context(), gossiping, ringCodec)
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = node.Close() })
					cfg.Backend, deps.Memberlist = "memberlist", node
					first = cmp.Or(first, node.Address())
				}
				client, err := factory.New(t.Context(), cfg, ringCodec, deps)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = client.Close() })
				opened[i] = client
			}
			want := map[string]bool{}
			var writers sync.WaitGroup
			for i, client := range opened {
				for n := range updates {
					want[fmt.Sprintf("%d-%d", i, n)] = true
				}
				writers.Go(func() {
					for n := range updates {
						if err := register(t.Context(), client, Instance{ID: fmt.Sprintf("%d-%d", i, n)}); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			writers.Wait()
			for i, client := range opened {
				awaitInstances(t, i, client, want)
			}
		})
	}
}

// awaitInstances waits until client i sees all that was registered.
func awaitInstances(t *testing.T, i int, client kv.Client, want map[string]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	missing := maps.Clone(want)
	client.WatchKey(ctx, "ring", func(v any) bool {
		for id := range v.(*Ring).All() {
			delete(missing, id)
		}
		return len(missing) > 0
	})
	if len(missing) > 0 {
		t.Errorf("client %d never saw %d of %d instances, such as %s", i, len(missing), len(want), slices.Sorted(maps.Keys(missing))[0])
	}
}
