package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grafana/dskit/ring"
	"github.com/grafana/dskit/services"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/adapters/dskit"
	"github.com/polykv/polykv/adapters/hostkv"
	"github.com/polykv/polykv/compat/internal/choice"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
)

// asProgram makes the test's own binary the program.
const asProgram = "POLYKV_COMPAT_PROGRAM"

var (
	etcd   = servertest.SharedEtcd(testserver.Options{NoFsync: true})
	consul = servertest.SharedConsul(testserver.Options{})
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(servertest.Main(m, etcd, consul))
}

// TestVersions fails when a floor of polykv's rises above what dskit chooses.
func TestVersions(t *testing.T) {
	choice.Check(t, []string{"github.com/grafana/dskit"}, nil)
}

// patience is how long anything is waited for that must happen.
const patience = 2 * time.Minute

// backend is a store as the processes of a fleet reach it.
type backend struct {
	name string

	// store returns the configuration of one process.
	store func(t *testing.T) string

	// alone: the store is in this process, so that no other process can join.
	alone bool
}

func backends() []backend {
	return []backend{
		{name: "inmemory", alone: true, store: func(t *testing.T) string {
			return fmt.Sprintf("backend: inmemory\ninmemory: {name: %s}\n", t.Name())
		}},
		{name: "etcd", store: func(t *testing.T) string {
			return fmt.Sprintf("backend: etcd\nprefix: dskit/\netcd: {endpoints: [%q]}\n", etcd.Get(t).Endpoints()[0])
		}},
		{name: "consul", store: func(t *testing.T) string {
			return fmt.Sprintf("backend: consul\nprefix: dskit/\nconsul: {address: %q}\n", consul.Get(t).Endpoints()[0])
		}},
		gossip(),
	}
}

// gossip is a cluster in which each process has a node.
func gossip() backend {
	var seed string
	return backend{name: "memberlist", store: func(t *testing.T) string {
		if seed == "" {
			cfg := memberlist.DefaultConfig()
			cfg.NodeName, cfg.BindAddress, cfg.BindPort = "seed", "127.0.0.1", 0
			node, err := memberlist.Start(t.Context(), cfg, dskit.NewCodec(ring.GetCodec()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := node.Close(); err != nil {
					t.Logf("the seed: %v", err) // its peers may be dead
				}
			})
			seed = node.Address()
		}
		return fmt.Sprintf("backend: memberlist\nmemberlist: {bind_address: 127.0.0.1, bind_port: 0, join: [%q]}\n", seed)
	}}
}

// file writes a process's configuration.
func file(t *testing.T, b backend) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.yaml")
	if err := os.WriteFile(path, []byte(b.store(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// client is what one process of the fleet opens.
func client(t *testing.T, b backend) *hostkv.View {
	t.Helper()
	c, err := open(t.Context(), file(t, b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil && b.name != "memberlist" { // a node may have nobody left to leave to
			t.Error(err)
		}
	})
	return c
}

// start runs a service until the test ends, or stop.
func start(t *testing.T, s services.Service) (stop func()) {
	t.Helper()
	if err := services.StartAndAwaitRunning(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := services.StopAndAwaitTerminated(ctx, s); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// join starts an instance in this process, with a client of its own.
func join(t *testing.T, b backend, instance string) (leave func()) {
	t.Helper()
	l, err := newLifecycler(client(t, b), instance)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, l)
}

// spawn starts an instance in a process of its own.
func spawn(t *testing.T, b backend, instance string) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-store", file(t, b), "-instance", instance)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(kill)
	return kill
}

// eventually waits for what the readers of a ring see.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: not %s", patience, what)
		}
	}
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
func heartbeat(t *testing.T, c *hostkv.View, instance string) int64 {
	t.Helper()
	value, err := c.Get(t.Context(), ringKey)
	if err != nil {
		t.Fatal(err)
	}
	return value.(*ring.Desc).Ingesters[instance].Timestamp
}

func TestRing(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) { t.Parallel(); testRing(t, b) })
	}
}

func testRing(t *testing.T, b backend) {
	reader := client(t, b)
	r, err := newRing(reader)
	if err != nil {
		t.Fatal(err)
	}
	start(t, r)

	join(t, b, "a")
	join(t, b, "b")
	leave := join(t, b, "c")
	eventually(t, "all joined", func() bool { return healthy(r) == "a b c" })

	kill := func() {}
	if !b.alone {
		kill = spawn(t, b, "d")
		eventually(t, "another process joined", func() bool { return healthy(r) == "a b c d" })
	}

	seen := heartbeat(t, reader, "a")
	eventually(t, "two heartbeats", func() bool { return heartbeat(t, reader, "a") >= seen+2 })

	leave()
	eventually(t, "one has left", func() bool { return !r.HasInstance("c") })

	kill()
	eventually(t, "the killed one is unhealthy", func() bool { return healthy(r) == "a b" })
	if !b.alone && !r.HasInstance("d") {
		t.Error("who was killed has unregistered")
	}
}

// TestFactoryRefusesAnotherCodec: a mix that can't work is refused when it is
// made.
func TestFactoryRefusesAnotherCodec(t *testing.T) {
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
