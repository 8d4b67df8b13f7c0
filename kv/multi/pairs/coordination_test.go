package pairs

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/locktest"
	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// A fleet whose members take a lock in turn, and are present, is moved from Consul
// to etcd and back again. No two of them act under the lock's fence at once, and
// who is there stays there.
func TestLocksAndPresenceThroughCutovers(t *testing.T) {
	const ttl = 4 * time.Second
	lasts := 25 * time.Second
	if soak() {
		lasts = 5 * time.Minute
	}
	p := onServers(t, "coordination/")
	m, closeBoth, err := p.migration()
	if err != nil {
		t.Fatal(err)
	}
	defer closeBoth()
	must(t)(m.Start(t.Context()))
	var rings []*coordination.Presence
	client := func(i int) kv.Client {
		backends := make([]multi.Backend, len(p.places))
		for at := range backends {
			c, err := p.plain(at)
			if err != nil {
				t.Fatal(err)
			}
			backends[at] = multi.Backend{Name: p.places[at].name, Client: c}
		}
		c, err := multi.New(config(), backends, multi.WithLogger(quiet))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Leased(c); !errors.Is(err, kv.ErrNotSupported) {
			t.Errorf("leases over two stores: %v", err)
		}
		ring, err := coordination.NewPresence(c, "ring", coordination.Options{TTL: 15 * time.Second, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ring.Join(t.Context(), strconv.Itoa(i), "here"); err != nil {
			t.Fatal(err)
		}
		rings = append(rings, ring)
		return c
	}
	moves := 0
	move := func(ctx context.Context) {
		for i := 0; ctx.Err() == nil; i++ {
			_ = wait.For(ctx, time.Duration(rand.Int64N(int64(ttl))))
			command := []func(context.Context) (migrate.Result, error){m.Cutover, m.Rollback}[i%2]
			if _, err := command(context.WithoutCancel(ctx)); err != nil {
				t.Errorf("the primary could not be changed: %v", err)
				return
			}
			moves++
			if members, err := rings[0].Members(ctx); err == nil && len(members) != len(rings) {
				t.Errorf("after a change of the primary there are %v", members)
			}
		}
	}
	seed := rand.Uint64()
	h := locktest.Run(t, locktest.Options{Seed: seed, TTL: ttl, Lasts: lasts, Client: client, Disrupt: move})
	t.Logf("seed %d: %v, and %d acts of former holders, refused; %d changes of the primary", seed, h.Tally, h.Late, moves)
	if h.Tally[locktest.Taken] == 0 || h.Tally[locktest.Wrote] == 0 || moves == 0 {
		t.Errorf("nothing happened: %v, %d", h.Tally, moves)
	}
	for _, ring := range rings {
		_ = ring.Close() // whose client is closed
	}
}
