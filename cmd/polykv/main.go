// Command polykv reads, writes, watches and demonstrates key-value stores; see
// "polykv --help". Its backends are polykv's own, bolt, a store in one file,
// nats, the key-value buckets of NATS JetStream, and postgres, a table of PostgreSQL.
package main

import (
	"context"
	"log"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/drivers/bolt"
	"github.com/polykv/polykv/drivers/nats"
	"github.com/polykv/polykv/drivers/postgres"
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

// drivers returns polykv's own and those from modules of their own.
func drivers() (factory.Drivers, error) {
	all := factory.Builtin()
	for library, join := range map[string]factory.Driver{
		"github.com/nats-io/nats.go": factory.StoreDriver("nats", nats.NewConfig, openNATS),
		"github.com/jackc/pgx/v5":    factory.StoreDriver("postgres", postgres.NewConfig, openPostgres),
	} {
		join.
			Library = library
		if err := all.Add(join); err != nil {
			return all, err
		}
	}
	return all, all.Add(boltDriver())
}

func openNATS(_ context.Context, c *nats.Config, env factory.Env) (driver.Store, error) {
	return nats.Open(*c, env.Options.Logger)
}

func openPostgres(_ context.Context, c *postgres.Config, env factory.Env) (driver.Store, error) {
	return postgres.Open(*c, env.Options.Logger)
}

func boltDriver() factory.Driver {
	var files bolt.Files // clients of the same file share it
	open := func(_ context.Context, c *bolt.Config, _ factory.Env) (driver.Store, error) {
		return files.Open(*c)
	}
	join := factory.StoreDriver("bolt", bolt.NewConfig, open)
	join.Library = "go.etcd.io/bbolt"
	return join
}
