package polykv_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mostModules is how many modules a program links at most, ours included, that
// uses package kv and one driver.
var mostModules = map[string]int{"inmemory": 6, "etcd": 23, "consul": 24, "memberlist": 25}

// TestLinkedModules keeps what a program takes in with a driver from growing
// unnoticed.
func TestLinkedModules(t *testing.T) {
	_ = os.Getenv("POLYKV_TREE") // set by make test, so that no result from before a change of what go list reads is taken
	for name, most := range mostModules {
		list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./kv", "./kv/"+name)
		list.Env = append(os.Environ(), "GOWORK=off") // as a program has it
		out, err := list.Output()
		if err != nil {
			t.Fatal(err)
		}
		modules := strings.Fields(string(out))
		slices.Sort(modules)
		modules = slices.Compact(modules)
		if len(modules) < 4 || len(modules) > most {
			t.Errorf("kv and kv/%s link %d modules; at most %d are allowed: %s", name, len(modules), most, strings.Join(modules, ", "))
		}
	}
}
