// Election has one process of several do the work: it counts, under a fence, so
// that a leader that was stopped and does not know it counts no more.
//
//	go run ./examples/election -kv.backend etcd -kv.etcd.endpoints 127.0.0.1:2379 -id one
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
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/factory"
)

func main() {
	cfg := factory.NewConfig()
	cfg.RegisterFlagsStd(flag.CommandLine, "kv.")
	id := flag.String("id", "", "of this process, for others to see")
	ttl := flag.Duration("ttl", 10*time.Second, "after which a dead leader is followed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cfg, *id, *ttl); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, cfg *factory.Config, id string, ttl time.Duration) error {
	client, err := factory.New(ctx, cfg, codec.JSON[count]{}, factory.Deps{})
	if err != nil {
		return err
	}
	defer client.Close()
	election, err := coordination.NewElection(client, "leader", coordination.Options{TTL: ttl})
	if err != nil {
		return err
	}
	defer election.Close() // resigns
	for {
		leading, err := election.Campaign(ctx, id)
		if err != nil {
			return err
		}
		fmt.Println(id, "leads, term", leading.Term())
		fenced, err := leading.Client()
		if err != nil {
			return err
		}
		for err = work(ctx, fenced, leading.Term()); err == nil; err = work(ctx, fenced, leading.Term()) {
			time.Sleep(10 * time.Millisecond)
		}
		fmt.Println(id, "leads no more:", err)
		if err := leading.Unlock(ctx); err != nil && !errors.Is(err, coordination.ErrLost) {
			return err
		}
	}
}

type count struct{ N, Term uint64 }

func work(ctx context.Context, c kv.Client, term uint64) error {
	return kv.Typed[count](c).Update(ctx, "count", func(old count, _ bool) (count, kv.Action, error) {
		return count{old.N + 1, term}, kv.Put, nil
	})
}
