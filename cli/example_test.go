package cli_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/inmemory"
)

// mapConfig is the section of a driver of somebody else's.
type mapConfig struct {
	Name string `yaml:"name"`
}

func newMapConfig() *mapConfig { return &mapConfig{} }

func (c *mapConfig) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	fs.StringVar(&c.Name, prefix+"name", c.Name, "name of the map")
}

func (c *mapConfig) Validate() error {
	if c.Name == "" {
		return errors.New("name: give one")
	}
	return nil
}

// withMap returns the built-in drivers and one more, whose data is in store.
func withMap(store *inmemory.Store) factory.Drivers {
	drivers := factory.Builtin()
	err := drivers.Add(factory.StoreDriver("map", newMapConfig,
		func(_ context.Context, _ *mapConfig, env factory.Env) (driver.Store, error) {
			env.Options.Logger.Info("opened")
			return store.Open(), nil
		}))
	if err != nil {
		panic(err)
	}
	return drivers
}

// A driver of somebody else's takes part in every command. A program calls
// cli.Main, which is Run with the process's arguments, files and signals.
func ExampleRun() {
	drivers := withMap(inmemory.NewStore())
	do := func(args ...string) {
		code := cli.Run(context.Background(), drivers, args, os.Stdin, os.Stdout, os.Stdout)
		fmt.Println("exit code", code)
	}
	do("--backend=map", "--map.name=m", "put", "greeting", "hello\n")
	do("--backend=map", "--map.name=m", "get", "greeting")
	do("--backend=map", "--map.name=m", "get", "nothing")
	do("--backend=map", "list")
	// Output:
	// exit code 0
	// hello
	// exit code 0
	// polykv: the key "nothing" is absent
	// exit code 1
	// polykv: map.name: give one
	// exit code 2
}

func TestDriverOfSomebodyElse(t *testing.T) {
	drivers := withMap(inmemory.NewStore())
	do := func(args ...string) result {
		return runWith(t.Context(), drivers, strings.NewReader(""), append(args, "--backend=map", "--map.name=m")...)
	}
	do("put", "k", "v").want(t, 0, "", "")
	do("watch", "k", "--count=1").want(t, 0, `{"type":"put","key":"k","value":"v"}`, "")
	do("demo", "--duration=100ms").want(t, 0, "polykv demo on map for 100ms", "verifying")
	do("list").want(t, 0, "k\n", "") // nothing of the demo is left
	do("help", "flags").want(t, 0, "\nmap\n      --map.name string   name of the map\n", "")
	do("version").want(t, 0, "\nbackends: consul, etcd, inmemory, map, memberlist\n", "")
	file := writeFile(t, "polykv.yaml", "map:\n  nam: x\n")
	do("list", "--config", file).want(t, 2, "", `line 2: map.nam: unknown field, did you mean "name"?`)
}

func TestVerboseLogs(t *testing.T) {
	drivers := withMap(inmemory.NewStore())
	get := []string{"list", "--backend=map", "--map.name=m"}
	runWith(t.Context(), drivers, nil, get...).want(t, 0, "", "")
	runWith(t.Context(), drivers, nil, append(get, "-v")...).want(t, 0, "", "level=INFO msg=opened")
}

func TestNoArguments(t *testing.T) {
	for _, args := range [][]string{nil, {}} {
		runWith(t.Context(), factory.Builtin(), nil, args...).want(t, 0, "Usage:\n  polykv COMMAND [flags]\n", "")
	}
}
