// Package polykv_test holds the arrows between packages, as docs/design.md
// draws them.
package polykv_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/polykv/polykv/"

// mayLink says which of our packages each of our packages may import,
// directly or not. Packages that are not named here are programs, wiring, or
// helpers of tests.
var mayLink = map[string][]string{
	"codec":     {},
	"kv/driver": {},
	"kv/config": {},

	"kv/driver/kit":  {"kv/config", "kv/driver"},
	"kv/driver/feed": {"kv/driver"},

	"kv/multi/internal/side":       {"codec", "kv", "kv/driver"},
	"kv/multi/internal/switchtest": {"codec", "kv", "kv/driver", "conformance", "kvtest"},
	"kv/multi/migrate":             {"codec", "kv", "kv/driver", "kv/multi/internal/side"},

	"kv":                {"codec", "kv/driver"},
	"kv/inmemory":       {"codec", "kv", "kv/driver", "kv/config", "kv/driver/feed"},
	"kv/etcd":           {"codec", "kv", "kv/driver", "kv/config", "kv/driver/kit"},
	"kv/consul":         {"codec", "kv", "kv/driver", "kv/config", "kv/driver/kit"},
	"kv/multi":          {"codec", "kv", "kv/driver", "kv/multi/internal/side"},
	"kv/coordination":   {"codec", "kv", "kv/driver"},
	"kv/multi/progress": {"codec", "kv", "kv/driver", "kv/multi", "kv/multi/internal/side", "internal/webpage"},
	"kv/metrics":        {"codec", "kv", "kv/driver"},

	"kv/memberlist/internal/state": {"codec", "kv", "kv/driver", "kv/driver/feed"},

	"kv/memberlist/internal/network": {},
	"kv/memberlist/internal/spread": {
		"codec", "kv", "kv/driver", "kv/driver/feed", "kv/memberlist/internal/network", "kv/memberlist/internal/state",
	},
	"kv/memberlist": {
		"codec", "kv", "kv/driver", "kv/config", "kv/driver/feed", "internal/webpage",
		"kv/memberlist/internal/network", "kv/memberlist/internal/state", "kv/memberlist/internal/spread",
	},

	"kvtest":      {"kv/driver"},
	"conformance": {"codec", "kv", "kvtest", "kv/driver"},
}

// helpers use none of ours, and anybody may use them.
var helpers = []string{"internal/wait", "kv/internal/removal"}

// backends are libraries that, among the packages above, only these may link.
var backends = map[string][]string{
	"go.etcd.io/":                     {"kv/etcd"},
	"google.golang.org/grpc":          {"kv/etcd"},
	"github.com/hashicorp/consul/":    {"kv/consul"},
	"github.com/hashicorp/memberlist": {"kv/memberlist", "kv/memberlist/internal/network", "kv/memberlist/internal/spread"},
	"github.com/prometheus/client_":   {"kv/metrics"},
}

// mayLinkAll are those that bring drivers together.
var mayLinkAll = []string{"kv/factory", "adapters/hostconfig", "cli", "cmd/", "examples/", "internal/", "e2e", "bench"}

func TestDependencyRules(t *testing.T) {
	packages := listPackages(t, "./...")
	if len(packages["kv"]) == 0 || len(packages["kv/etcd"]) == 0 {
		t.Fatalf("the list of packages is incomplete: %v", packages)
	}
	for name, deps := range packages {
		allowed, ruled := mayLink[name]
		if ruled {
			allowed = slices.Concat(allowed, helpers)
		} else if slices.Contains(helpers, name) {
			allowed, ruled = []string{}, true
		}
		drivers := 0
		for _, dep := range deps {
			ours, isOurs := strings.CutPrefix(dep, module)
			if ruled && isOurs && !slices.Contains(allowed, ours) {
				t.Errorf("%s links %s, which it may not; see docs/design.md", name, ours)
			}
			if isOurs && slices.Contains([]string{"kv/inmemory", "kv/etcd", "kv/consul", "kv/memberlist"}, ours) {
				drivers++
			}
			for backend, owners := range backends {
				if ruled && strings.HasPrefix(dep, backend) && !slices.Contains(owners, name) && name != "kv/consul" {
					t.Errorf("%s links %s, which belongs to %s", name, dep, owners)
				}
			}
		}
		bringsTogether := slices.ContainsFunc(mayLinkAll, func(p string) bool { return strings.HasPrefix(name, p) })
		if drivers > 1 && !bringsTogether {
			t.Errorf("%s links %d drivers; only kv/factory and what uses it may", name, drivers)
		}
	}
	for _, dep := range packages["kv/consul"] { // whose library shares much with memberlist
		if strings.HasPrefix(dep, "go.etcd.io/") || strings.HasPrefix(dep, "github.com/hashicorp/memberlist") {
			t.Errorf("kv/consul links %s", dep)
		}
	}
}

// libraries are the drivers with what the packages of their library begin with.
var libraries = map[string]string{
	"kv/inmemory": module + "kv/inmemory/", "kv/etcd": "go.etcd.io/etcd/", "kv/consul": "github.com/hashicorp/consul/", "kv/memberlist": "github.com/hashicorp/memberlist",
	"drivers/bolt": "go.etcd.io/bbolt", "drivers/nats": "github.com/nats-io/", "drivers/postgres": "github.com/jackc/pgx/",
}

// TestDriverAlone wants a program with one driver to link none of the others, nor
// their libraries.
func TestDriverAlone(t *testing.T) {
	var patterns []string
	for name := range libraries {
		patterns = append(patterns, "./"+name)
	}
	packages := listPackages(t, patterns...)
	for name, own := range libraries {
		links := func(prefix string) bool {
			return slices.ContainsFunc(packages[name], func(dep string) bool { return strings.HasPrefix(dep, prefix) })
		}
		if name != "kv/inmemory" && !links(own) {
			t.Errorf("%s doesn't link %s; is the list of packages complete?", name, own)
		}
		for other, library := range libraries {
			if other != name && (slices.Contains(packages[name], module+other) || links(library)) {
				t.Errorf("%s links %s or its library", name, other)
			}
		}
	}
}

// listPackages returns packages of ours with everything that each links.
func listPackages(t *testing.T, patterns ...string) map[string][]string {
	t.Helper()
	_ = os.Getenv("POLYKV_TREE") // set by make test, so that no result from before a change of what go list reads is taken
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Deps"}, patterns...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string][]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(p.ImportPath, module)] = p.Deps
	}
}
