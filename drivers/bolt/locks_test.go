package bolt

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/locktest"
	"github.com/polykv/polykv/kv/driver"
)

// TestLockHistories judges a lock for which clients of one file fight.
func TestLockHistories(t *testing.T) {
	var files Files
	cfg := fileOf(t)
	seed := rand.Uint64()
	o := locktest.Options{Seed: seed, TTL: time.Second, Lasts: 10 * time.Minute, Holds: 40, Late: 8, Open: func(int) driver.Store {
		store, err := files.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}}
	h := locktest.Run(t, o)
	t.Logf("seed %d: %v, and %d acts of former holders, refused", seed, h.Tally, h.Late)
}
