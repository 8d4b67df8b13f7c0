package factory_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/factory"
)

// A program with a configuration file and flags.
func Example() {
	cfg := factory.NewConfig()
	flags := pflag.NewFlagSet("program", pflag.ContinueOnError)
	cfg.RegisterFlags(flags, "kv.")
	if err := flags.Parse([]string{"--kv.prefix=shop/"}); err != nil {
		panic(err)
	}
	// In a program: cfg.LoadFile(path). Flags win, whichever is read first.
	if err := cfg.Load(strings.NewReader("backend: inmemory\nprefix: test/\n")); err != nil {
		panic(err)
	}

	ctx := context.Background()
	client, err := factory.New(ctx, cfg, codec.String{}, factory.Deps{})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	err = client.CAS(ctx, "greeting", func(any) (any, bool, error) { return "hello", false, nil })
	if err != nil {
		panic(err)
	}
	value, err := client.Get(ctx, "greeting")
	fmt.Println(cfg.Backend, cfg.Prefix, value, err)
	// Output: inmemory shop/ hello <nil>
}

// What is wrong is said with its line, its path and what is allowed.
func ExampleConfig_Load() {
	cfg := factory.NewConfig()
	fmt.Println(cfg.Load(strings.NewReader("backend: etcd\netcd:\n  dial_timeout: soon\n")))
	fmt.Println(cfg.Load(strings.NewReader("bakend: etcd\n")))
	// Output:
	// line 3: etcd.dial_timeout: "soon" is not a duration; write it like 500ms, 10s or 1m30s
	// line 1: bakend: unknown field, did you mean "backend"?; known here: backend, client, consul, etcd, inmemory, memberlist, multi, prefix, record_check, require
}

// What the environment says wins over the file, and yields to flags.
func ExampleConfig_LoadEnv() {
	os.Setenv("SHOP_ETCD_ENDPOINTS", "etcd-1:2379,etcd-2:2379")
	defer os.Unsetenv("SHOP_ETCD_ENDPOINTS")
	cfg := factory.NewConfig()
	if err := cfg.Load(strings.NewReader("backend: etcd\netcd: {endpoints: [127.0.0.1:2379]}\n")); err != nil {
		panic(err)
	}
	fmt.Println(cfg.LoadEnv("SHOP_"), cfg.Etcd.Endpoints)
	// Output: <nil> [etcd-1:2379 etcd-2:2379]
}

// A program whose flags are those of the standard library.
func ExampleConfig_RegisterFlagsStd() {
	cfg := factory.NewConfig()
	flags := flag.NewFlagSet("program", flag.ContinueOnError)
	cfg.RegisterFlagsStd(flags, "kv.")
	fmt.Println(flags.Parse([]string{"-kv.backend=etcd", "-kv.etcd.serializable-reads"}), cfg.Backend, cfg.Etcd.SerializableReads)
	// Output: <nil> etcd true
}

// A program that has one backend to offer, and one for its tests.
func ExampleDrivers_Only() {
	drivers, err := factory.Builtin().Only("etcd", "inmemory")
	if err != nil {
		panic(err)
	}
	fmt.Println(drivers)
	fmt.Println(drivers.NewConfig().Load(strings.NewReader("consul: {}\n")))
	// Output:
	// etcd, inmemory
	// line 1: consul: unknown field; known here: backend, client, etcd, inmemory, prefix, record_check, require
}

func ExampleDecode() {
	cfg, err := factory.Decode([]byte(`{"backend": "inmemory", "prefix": "shop/"}`))
	fmt.Println(cfg.Backend, cfg.Prefix, err)
	// Output: inmemory shop/ <nil>
}

// A driver of somebody else's joins.
func ExampleDrivers_Add() {
	drivers := factory.Builtin()
	if err := drivers.Add(factory.StoreDriver("bolt", newBoltConfig, openBolt)); err != nil {
		panic(err)
	}
	cfg := drivers.NewConfig()
	if err := cfg.Load(strings.NewReader("backend: bolt\nbolt: {path: /tmp/data}\n")); err != nil {
		panic(err)
	}
	fmt.Println(drivers, cfg.Section("bolt").(*boltConfig).Path)
	// Output: bolt, consul, etcd, inmemory, memberlist /tmp/data
}

func ExampleConfig_Validate() {
	cfg := factory.NewConfig()
	cfg.Backend = "etdc"
	fmt.Println(cfg.Validate())
	// Output: backend: unknown backend "etdc", did you mean "etcd"?; choose one of: consul, etcd, inmemory, memberlist
}
