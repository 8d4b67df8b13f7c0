package factory_test

import (
	"context"
	"fmt"
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
	// line 1: bakend: unknown field, did you mean "backend"?; known here: backend, client, consul, etcd, inmemory, memberlist, multi, prefix
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
