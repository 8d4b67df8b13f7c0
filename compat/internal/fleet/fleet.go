// Package fleet is for the tests of the host programs: the stores as the
// processes of a fleet reach them, and the processes themselves.
package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/memberlist"
)

// asProgram makes the test's own binary the program.
const asProgram = "POLYKV_COMPAT_PROGRAM"

// Servers are those that the tests of a package share.
type Servers struct{ Etcd, Consul *servertest.Shared }

// NewServers makes them; they start when they are used.
func NewServers() Servers {
	return Servers{
		Etcd:   servertest.SharedEtcd(testserver.Options{NoFsync: true}),
		Consul: servertest.SharedConsul(testserver.Options{}),
	}
}

// Main is TestMain of a package whose program is main.
func (s Servers) Main(m *testing.M, main func(), ignore ...goleak.Option) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(servertest.Main(m, s.Etcd, s.Consul), ignore...)
}

// Store is one store.
type Store struct {
	Name string

	// Alone: the store is in this process, so that no other can join.
	Alone bool

	config func(t *testing.T) string
}

// Stores returns all of them. Nodes of gossip have the codec c.
func (s Servers) Stores(c codec.Codec) []Store {
	return []Store{
		{Name: "inmemory", Alone: true, config: func(t *testing.T) string {
			return fmt.Sprintf("backend: inmemory\ninmemory: {name: %s}\n", t.Name())
		}},
		{Name: "etcd", config: func(t *testing.T) string {
			return fmt.Sprintf("backend: etcd\nprefix: %s/\netcd: {endpoints: [%q]}\n", t.Name(), s.Etcd.Get(t).Endpoints()[0])
		}},
		{Name: "consul", config: func(t *testing.T) string {
			return fmt.Sprintf("backend: consul\nprefix: %s/\nconsul: {address: %q}\n", t.Name(), s.Consul.Get(t).Endpoints()[0])
		}},
		gossip(c),
	}
}

// gossip is a cluster in which each process has a node.
func gossip(c codec.Codec) Store {
	var seed string
	return Store{Name: "memberlist", config: func(t *testing.T) string {
		t.Helper()
		if seed == "" {
			cfg := memberlist.DefaultConfig()
			cfg.NodeName, cfg.BindAddress, cfg.BindPort = "seed", "127.0.0.1", 0
			node, err := memberlist.Start(t.Context(), cfg, c)
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

// File writes the configuration of one process, for package factory.
func (s Store) File(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.yaml")
	if err := os.WriteFile(path, []byte(s.config(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Closed reports an error of Close of a client of s. A node of gossip may have
// nobody left to leave to.
func (s Store) Closed(t *testing.T, err error) {
	t.Helper()
	if err != nil && s.Name != "memberlist" {
		t.Error(err)
	}
}

// Spawn starts an instance in a process of its own, which ends with the test,
// or when it is killed.
func (s Store) Spawn(t *testing.T, instance string) (kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-store", s.File(t), "-instance", instance)
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

// Patience is how long anything is waited for that must happen.
const Patience = 2 * time.Minute

// Eventually waits until something has happened.
func Eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %v: not %s", Patience, what)
		}
	}
}
