// The build command compiles pinned tools into the user's cache folder and prints where each one is, one a line.
//
//	go run ./internal/testserver/pinned/build etcd consul
//	go run ./internal/testserver/pinned/build -clean
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/polykv/polykv/internal/testserver/pinned"
)

func main() {
	clean := flag.Bool("clean", false, "remove every compiled tool")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *clean, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, clean bool, names []string) error {
	if clean {
		return pinned.Clean()
	}
	for _, name := range names {
		tool, err := pinned.ByName(name)
		if err != nil {
			return err
		}
		file, err := tool.Path(ctx, os.Stderr)
		if err != nil {
			return err
		}
		fmt.Println(file)
	}
	return nil
}
