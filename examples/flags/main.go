// Flags are switches that every process reads from its own memory, without a
// request, and that anybody may turn: a line "NAME on" on standard input does.
//
//	go run ./examples/flags -kv.backend etcd -kv.etcd.endpoints 127.0.0.1:2379
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
)

func main() {
	cfg := factory.NewConfig()
	cfg.RegisterFlagsStd(flag.CommandLine, "kv.")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, cfg *factory.Config) error {
	client, err := factory.New(ctx, cfg, codec.String{}, factory.Deps{})
	if err != nil {
		return err
	}
	defer client.Close()
	flags := kv.Follow(ctx, client, kv.PrefixRange("flags/"))
	defer flags.Close()
	if err := flags.Ready(ctx); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		name, state, turn := strings.Cut(lines.Text(), " ")
		if turn {
			err = client.CAS(ctx, "flags/"+name, func(any) (any, bool, error) { return state, false, nil })
			if err != nil {
				return err
			}
		}
		fmt.Println(name, enabled(flags, name))
	}
	return lines.Err()
}

// enabled costs no request. A flag that nobody turned is off.
func enabled(flags *kv.Follower, name string) bool {
	state, _ := flags.Get("flags/" + name)
	return state == "on"
}
