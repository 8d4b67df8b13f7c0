package memberlist

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// TestNodesConvergeUnderLoss is what TestConvergence checks, on whole nodes that
// write at once while a fifth of the packets is lost: when they stop, all
// become equal.
func TestNodesConvergeUnderLoss(t *testing.T) {
	const size, writes = 5, 100
	fabric := network.NewFabric(1)
	nodes := startNodes(t, size, fabric, nil)
	fabric.SetLoss(0.2)
	var writers sync.WaitGroup
	for i, n := range nodes {
		texts, maps := clientOf(t, n, codec.String{}), clientOf(t, n, counts)
		rnd := rand.New(rand.NewPCG(uint64(i), 2)) //nolint:gosec // a schedule
		writers.Go(func() {
			for k := range writes {
				if err := writeSomething(t.Context(), texts, maps, rnd, i, k); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	views := func() (all []string) {
		for _, n := range nodes {
			all = append(all, (&loopback{store: n.store}).view())
		}
		return all
	}
	soon(t, "all nodes are equal", func() bool {
		all := views()
		for _, v := range all {
			if v != all[0] {
				return false
			}
		}
		return true
	})
	last, _ := nodes[0].store.Get("map/kept").Mergeable().(*Map[string, int])
	if last.Len() != size*writes {
		t.Errorf("of %d entries of a map that nobody deleted, %d are left", size*writes, last.Len())
	}
}

func writeSomething(ctx context.Context, texts, maps kv.Client, rnd *rand.Rand, node, k int) error {
	if err := set(ctx, maps, "map/kept", fmt.Sprintf("%d/%d", node, k), k); err != nil {
		return err
	}
	name := fmt.Sprint(rnd.IntN(3))
	switch rnd.IntN(5) {
	case 0:
		return maps.Delete(ctx, "map/"+name)
	case 1:
		return texts.Delete(ctx, "text/"+name)
	case 2:
		return put(ctx, texts, "text/"+name, fmt.Sprintf("%d/%d", node, k))
	default:
		return set(ctx, maps, "map/"+name, fmt.Sprint(rnd.IntN(20)), k)
	}
}
