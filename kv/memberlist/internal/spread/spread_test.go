package spread

import (
	"fmt"
	"testing"
)

// TestChangesReachAll writes, overwrites and deletes on different nodes.
func TestChangesReachAll(t *testing.T) {
	both(t, func(t *testing.T, c *cluster) {
		nodes := c.grow(5)
		for i, n := range nodes {
			n.put(t, fmt.Sprintf("own/%d", i), "1")
			n.raise(t, "map", n.name, int64(i+1))
		}
		awaitEqual(t, patience, nodes...)
		nodes[1].put(t, "own/0", "2")
		nodes[2].delete(t, "own/3")
		awaitEqual(t, patience, nodes...)
		for _, n := range nodes {
			if got := n.get("own/0"); got != "2" {
				t.Errorf("%s has own/0 = %q", n.name, got)
			}
			if n.store.Get("own/3") != nil {
				t.Errorf("%s still has own/3", n.name)
			}
			if got := n.entries("map"); got != len(nodes) {
				t.Errorf("%s has %d entries in the map, want %d", n.name, got, len(nodes))
			}
		}
	})
}
