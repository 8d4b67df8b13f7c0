package polykv_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/polykv/polykv/"

// mayImport says which of our packages each of our packages may import,
// directly or not. "..." allows everything below. Packages that are not named
// here are programs, tools of tests, or examples.
var mayImport = map[string][]string{
	"codec":       {},
	"kv/driver":   {},
	"kv/config":   {},
	"kv":          {"codec", "kv/driver"},
	"kv/inmemory": {"codec", "kv", "kv/driver", "kv/config"},
	"kv/etcd":     {"codec", "kv", "kv/driver", "kv/config"},
	"kv/consul":   {"codec", "kv", "kv/driver", "kv/config"},
	"kv/multi":    {"codec", "kv", "kv/driver"},
	"kv/metrics":  {"codec", "kv", "kv/driver"},
	"conformance": {"codec", "kv", "kv/driver"},
}

// backends are the modules that only their own driver may link.
var backends = map[string]string{
	"go.etcd.io/":                       "kv/etcd",
	"google.golang.org/grpc":            "kv/etcd",
	"github.com/hashicorp/consul/":      "kv/consul",
	"github.com/hashicorp/memberlist":   "kv/memberlist",
	"github.com/hashicorp/serf":         "kv/consul",
	"github.com/prometheus/":            "kv/metrics",
	"github.com/hashicorp/go-immutable": "kv/inmemory",
}

func TestDependencyRules(t *testing.T) {
	for name, allowed := range mayImport {
		if !exists(t, name) {
			continue
		}
		for _, dep := range deps(t, module+name) {
			ours, isOurs := strings.CutPrefix(dep, module)
			if isOurs && ours != name && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s, which it may not; see docs/design.md", name, ours)
			}
			for backend, owner := range backends {
				if strings.HasPrefix(dep, backend) && owner != name && !ownsToo(name, backend) {
					t.Errorf("%s links %s, which belongs to %s", name, dep, owner)
				}
			}
		}
	}
}

// ownsToo tells of packages that share a library with its owner: memberlist
// and Consul's client have much in common, and gossip is no part of this list.
func ownsToo(name, backend string) bool {
	return name == "kv/consul" && backend == "github.com/prometheus/"
}

// Only the named in-memory stores may be package-level state, and nothing
// registers itself.
func TestOnlyTheFactoryImportsEveryDriver(t *testing.T) {
	for _, pkg := range list(t, "./...") {
		name := strings.TrimPrefix(pkg, module)
		if name == "kv/factory" || name == "cli" || strings.HasPrefix(name, "cmd/") ||
			strings.HasPrefix(name, "internal/") || strings.HasPrefix(name, "e2e") || strings.HasPrefix(name, "bench") {
			continue
		}
		drivers := 0
		for _, dep := range deps(t, pkg) {
			switch strings.TrimPrefix(dep, module) {
			case "kv/etcd", "kv/consul", "kv/inmemory", "kv/memberlist":
				drivers++
			}
		}
		if drivers > 1 {
			t.Errorf("%s links %d drivers; only kv/factory and what uses it may", name, drivers)
		}
	}
}

func exists(t *testing.T, name string) bool {
	return slices.Contains(list(t, "./..."), module+name)
}

func deps(t *testing.T, pkg string) []string {
	return list(t, "-deps", pkg)
}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Fields(string(out))
}
