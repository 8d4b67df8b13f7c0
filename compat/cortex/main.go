// Command cortex is an instance of Cortex's ring that lives in a store of
// polykv. It runs until it is interrupted, and then leaves.
//
//	cortex -store store.yaml -instance a
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

	"github.com/cortexproject/cortex/pkg/ring"
	cortexcodec "github.com/cortexproject/cortex/pkg/ring/kv/codec"
	"github.com/cortexproject/cortex/pkg/util/services"

	"github.com/polykv/polykv/adapters/cortex"
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
	client, err := open(ctx, store, ring.GetCodec())
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

// open is all that such a program changes: where it called Cortex's
// kv.NewClient.
func open(ctx context.Context, file string, codec cortexcodec.Codec) (cortex.Client, error) {
	cfg := factory.NewConfig()
	if err := cfg.LoadFile(file); err != nil {
		return cortex.Client{}, err
	}
	client, err := factory.New(ctx, cfg, cortex.NewCodec(codec), factory.Deps{})
	if err != nil {
		return cortex.Client{}, err
	}
	return cortex.NewClient(client)
}
