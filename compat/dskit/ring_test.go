package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	dskitkv "github.com/grafana/dskit/kv"
	"github.com/grafana/dskit/ring"
	"github.com/grafana/dskit/services"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/adapters/dskit"
	"github.com/polykv/polykv/adapters/hostkv"
	"github.com/polykv/polykv/compat/internal/choice"
	"github.com/polykv/polykv/compat/internal/fleet"
	"github.com/polykv/polykv/kv/factory"
)

var (
	servers = fleet.NewServers()
	codec   = dskit.NewCodec(ring.GetCodec())
)

// TestMain lets dskit's own client of etcd be, which nobody can close. That
// polykv's leaves nothing behind is for the tests of kv/etcd.
func TestMain(m *testing.M) {
	servers.Main(m, main,
		goleak.IgnoreAnyFunction("google.golang.org/grpc.(*addrConn).resetTransportAndUnlock"),
		goleak.IgnoreAnyFunction("google.golang.org/grpc/internal/grpcsync.(*CallbackSerializer).run"))
}

// TestVersions fails when a floor of polykv's rises above what dskit chooses.
func TestVersions(t *testing.T) {
	choice.Check(t, []string{"github.com/grafana/dskit"}, nil)
}

// client is what one process of the fleet opens.
func client(t *testing.T, s fleet.Store) *hostkv.View {
	t.Helper()
	c, err := open(t.Context(), s.File(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Closed(t, c.Close()) })
	return c
}

// start runs a service until the test ends, or stop.
func start(t testing.TB, s services.Service) (stop func()) {
	t.Helper()
	// Not with the test's ctx, whose end would end the service before its turn.
	if err := services.StartAndAwaitRunning(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), fleet.Patience)
		defer cancel()
		if err := services.StopAndAwaitTerminated(ctx, s); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// join starts an instance in this process, with a client of its own.
func join(t *testing.T, s fleet.Store, instance string) (leave func()) {
	t.Helper()
	l, err := newLifecycler(client(t, s), instance)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, l)
}

// healthy returns the instances that the ring would use, sorted.
func healthy(r *ring.Ring) string {
	set, err := r.GetAllHealthy(ring.Reporting)
	if err != nil {
		return err.Error()
	}
	var ids []string
	for _, i := range set.Instances {
		ids = append(ids, i.Id)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// heartbeat returns when an instance was last heard of.
func heartbeat(t *testing.T, c dskitkv.Client, instance string) int64 {
	t.Helper()
	value, err := c.Get(t.Context(), ringKey)
	if err != nil {
		t.Fatal(err)
	}
	desc, ok := value.(*ring.Desc)
	if !ok {
		t.Fatalf("the ring is a %T", value)
	}
	return desc.Ingesters[instance].Timestamp
}

func TestRing(t *testing.T) {
	for _, s := range servers.Stores(codec) {
		t.Run(s.Name, func(t *testing.T) { t.Parallel(); testRing(t, s) })
	}
}

func testRing(t *testing.T, s fleet.Store) {
	reader := client(t, s)
	r, err := newRing(reader)
	if err != nil {
		t.Fatal(err)
	}
	start(t, r)

	join(t, s, "a")
	join(t, s, "b")
	leave := join(t, s, "c")
	fleet.Eventually(t, "all joined", func() bool { return healthy(r) == "a b c" })

	kill := func() {}
	if !s.Alone {
		kill = s.Spawn(t, "d")
		fleet.Eventually(t, "another process joined", func() bool { return healthy(r) == "a b c d" })
	}

	seen := heartbeat(t, reader, "a")
	fleet.Eventually(t, "two heartbeats", func() bool { return heartbeat(t, reader, "a") >= seen+2 })

	leave()
	fleet.Eventually(t, "one has left", func() bool { return !r.HasInstance("c") })

	kill()
	fleet.Eventually(t, "the killed one is unhealthy", func() bool { return healthy(r) == "a b" })
	if !s.Alone && !r.HasInstance("d") {
		t.Error("who was killed has unregistered")
	}
}

// TestAnotherCodecIsRefused: a mix that can't work is refused when it is made.
func TestAnotherCodecIsRefused(t *testing.T) {
	cfg := factory.NewConfig()
	cfg.Backend, cfg.InMemory.Name = "inmemory", t.Name()
	c, err := factory.New(t.Context(), cfg, ring.GetCodec(), factory.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := dskit.NewClient(c); err == nil {
		t.Error("a client whose codec isn't the adapter's was taken")
	}
}
