// Command polykv reads, writes, watches and demonstrates key-value stores; see
// "polykv --help". Its backends are polykv's own and bolt, a store in one file.
package main

import (
	"context"
	"log"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/drivers/bolt"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/factory"
)

func main() {
	all, err := drivers()
	if err != nil {
		log.Fatal(err)
	}
	cli.Main(all)
}

// drivers returns polykv's own and bolt.
func drivers() (factory.Drivers, error) {
	var files bolt.Files // clients of the same file share it
	open := func(_ context.Context, c *bolt.Config, _ factory.Env) (driver.Store, error) {
		return files.Open(*c)
	}
	join := factory.StoreDriver("bolt", bolt.NewConfig, open)
	join.Library = "go.etcd.io/bbolt"
	all := factory.Builtin()
	return all, all.Add(join)
}
