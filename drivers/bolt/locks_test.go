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
	h := locktest.Run(t, locktest.Options{Seed: seed, TTL: time.Second, Lasts: 10 * time.Second, Open: func(int) driver.Store {
		store, err := files.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}})
	t.Logf("seed %d: %v, and %d acts of former holders, refused", seed, h.Tally, h.Late)
	if h.Tally[locktest.Taken] == 0 || h.Tally[locktest.Wrote] == 0 {
		t.Errorf("nothing happened: %v", h.Tally)
	}
}
