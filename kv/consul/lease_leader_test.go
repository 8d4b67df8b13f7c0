package consul_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
)

func clientAt(t *testing.T, address string) kv.Client {
	t.Helper()
	cfg := consul.DefaultConfig()
	cfg.Address = address
	store, err := consul.Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := kv.New(store, codec.String{}, &kv.Options{RetryTimeout: time.Minute})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// attach writes key by a new lease of that TTL, and returns its fence.
func attach(ctx context.Context, t *testing.T, c kv.Client, key string, ttl time.Duration) (*kv.Lease, kv.Guard) {
	t.Helper()
	leased, err := kv.Leased(c)
	if err != nil {
		t.Fatal(err)
	}
	lease, err := leased.Grant(ctx, ttl)
	if err != nil {
		t.Fatal(err)
	}
	if err := lease.CAS(ctx, key, to("owned")); err != nil {
		t.Fatal(err)
	}
	return lease, guardOf(ctx, t, c, key)
}

func to(value string) func(any) (any, bool, error) {
	return func(any) (any, bool, error) { return value, false, nil }
}

func guardOf(ctx context.Context, t *testing.T, c kv.Client, key string) kv.Guard {
	t.Helper()
	versions, err := kv.Versioned(c)
	if err != nil {
		t.Fatal(err)
	}
	_, version, err := versions.GetVersion(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	return kv.Guard{Key: key, Version: version}
}

// A new leader of three ends no lease early: it begins all of them anew. One whose
// owner is cut off is over later than without the change, and after its owner was
// told; then the owner's fence refuses what it still sends. One that is kept
// alive stays.
func TestLeasesThroughAChangeOfTheLeader(t *testing.T) {
	t.Parallel()
	c := servertest.Consul(t, testserver.Options{Nodes: 3})
	leader := servertest.Leader(t, c)
	ctx := drivertest.WithTimeout(t, 3*time.Minute)
	proxy := servertest.Proxy(t, c.Endpoints()[(leader+1)%3])
	owner, other := clientAt(t, proxy.Addr()), clientAt(t, c.Endpoints()[(leader+2)%3])

	kept, keptAt := attach(ctx, t, other, "kept", time.Minute)
	began := time.Now()
	lost, fence := attach(ctx, t, owner, "holder", 10*time.Second)
	fenced, err := kv.Fenced(owner, fence)
	if err != nil {
		t.Fatal(err)
	}
	if err := fenced.CAS(ctx, "acts", to("1")); err != nil {
		t.Fatal(err)
	}
	proxy.Hang()
	if err := c.Kill(leader); err != nil {
		t.Fatal(err)
	}
	next := servertest.Leader(t, c)
	changed := time.Since(began)
	if err := c.Restart(leader); err != nil {
		t.Fatal(err)
	}
	err = kv.Watch(ctx, other, kv.KeyRange("holder"), func(e kv.Event) bool { return e.Type != kv.Delete })
	gone := time.Since(began)
	if err != nil {
		t.Fatal(err)
	}
	if lost.Err() == nil {
		t.Error("the key vanished before its owner was told")
	}
	if gone < lost.TTL() {
		t.Errorf("it was over after %v, with a TTL of %v", gone, lost.TTL())
	}
	t.Logf("server %d led after %v instead of %d; the lease with a TTL of %v was over after %v", next, changed, leader, lost.TTL(), gone)

	if err := other.CAS(ctx, "holder", to("another's")); err != nil {
		t.Fatal(err)
	}
	if err := proxy.Heal(); err != nil {
		t.Fatal(err)
	}
	if err := fenced.CAS(ctx, "acts", to("2")); !errors.Is(err, kv.ErrFenced) {
		t.Errorf("a late act under the fence: %v", err)
	}
	if err := lost.CAS(ctx, "holder", to("mine")); !errors.Is(err, kv.ErrLeaseLost) {
		t.Errorf("a late write by the lease: %v", err)
	}
	if acts, err := other.Get(ctx, "acts"); acts != "1" || err != nil {
		t.Errorf("the acts are %v, %v", acts, err)
	}
	if now := guardOf(ctx, t, other, "kept"); now != keptAt || kept.Err() != nil {
		t.Errorf("what is kept alive was at %v and is at %v: %v", keptAt, now, kept.Err())
	}
	if err := kept.Close(); err != nil {
		t.Error(err)
	}
}
