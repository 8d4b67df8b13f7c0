// Registry shows who is there: each process joins with its address and prints all
// who are, again after each change.
//
//	go run ./examples/registry -kv.backend etcd -kv.etcd.endpoints 127.0.0.1:2379 -id one -address 10.0.0.1:80
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/factory"
)

func main() {
	cfg := factory.NewConfig()
	cfg.RegisterFlagsStd(flag.CommandLine, "kv.")
	id := flag.String("id", "", "of this process, unique")
	address := flag.String("address", "", "where others reach it")
	ttl := flag.Duration("ttl", 10*time.Second, "after which a dead process is gone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cfg, *id, *address, *ttl); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, cfg *factory.Config, id, address string, ttl time.Duration) error {
	client, err := factory.New(ctx, cfg, codec.String{}, factory.Deps{})
	if err != nil {
		return err
	}
	defer client.Close()
	registry, err := coordination.NewPresence(client, "registry", coordination.Options{TTL: ttl})
	if err != nil {
		return err
	}
	defer registry.Close() // leaves
	if _, err := registry.Join(ctx, id, address); err != nil {
		return err
	}
	for members, err := range registry.Watch(ctx) {
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Println(members)
	}
	return nil
}
