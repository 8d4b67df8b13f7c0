// Command dskit is a program as dskit's users write them: an instance of a ring
// that lives in a store of polykv. It runs until it is interrupted, and then
// leaves.
//
//	dskit -store store.yaml -instance a
//
// The file is a configuration of package factory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/grafana/dskit/ring"
	"github.com/grafana/dskit/services"

	"github.com/polykv/polykv/adapters/dskit"
	"github.com/polykv/polykv/adapters/hostkv"
	"github.com/polykv/polykv/kv/factory"
)

func main() {
	store := flag.String("store", "", "file with the store's configuration")
	instance := flag.String("instance", "", "name of the instance")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *store, *instance); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, store, instance string) (err error) {
	client, err := open(ctx, store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	l, err := newLifecycler(client, instance)
	if err != nil {
		return err
	}
	if err := services.StartAndAwaitRunning(ctx, l); err != nil {
		return err
	}
	<-ctx.Done()
	return services.StopAndAwaitTerminated(context.Background(), l)
}

// open is all that such a program changes: where it called dskit's
// kv.NewClient.
func open(ctx context.Context, file string) (*hostkv.View, error) {
	cfg := factory.NewConfig()
	if err := cfg.LoadFile(file); err != nil {
		return nil, err
	}
	client, err := factory.New(ctx, cfg, dskit.NewCodec(ring.GetCodec()), factory.Deps{})
	if err != nil {
		return nil, err
	}
	return dskit.NewClient(client)
}
