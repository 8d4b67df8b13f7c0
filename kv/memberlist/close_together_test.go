package memberlist

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
)

// Nodes that are closed at the same time don't wait for each other.
func TestNodesCloseTogether(t *testing.T) {
	for try := range 6 {
		t.Run(fmt.Sprint(try), func(t *testing.T) {
			nodes := startNodes(t, 2, nil, func(cfg *Config) { cfg.CloseTimeout = patience })
			var closing sync.WaitGroup
			for i, n := range nodes {
				putValue(t, clientOf(t, n, codec.String{}), fmt.Sprintf("key-%d", i), "value")
			}
			start := time.Now()
			for i, n := range nodes {
				closing.Go(func() {
					time.Sleep(time.Duration(i*try) * time.Millisecond)
					if err := n.Close(); err != nil {
						t.Errorf("%s: %v", n.Name(), err)
					}
				})
			}
			closing.Wait()
			if took := time.Since(start); took > patience/2 {
				t.Errorf("it took %v", took)
			}
		})
	}
}
