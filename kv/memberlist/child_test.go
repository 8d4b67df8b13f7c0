package memberlist

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/polykv/polykv/codec"
)

// joinVariable makes this test binary a node of its own process, which joins
// what the variable names.
const joinVariable = "POLYKV_TEST_JOIN"

// child runs such a node until standard input ends. For every key below
// written/ it writes one below seen/ with the length of the value.
func child(join string) error {
	cfg := stoppableConfig("child")
	cfg.Join = []string{join}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n, err := StartWith(ctx, cfg, Options{Logger: slog.New(slog.DiscardHandler)}, codec.String{})
	if err != nil {
		return err
	}
	defer n.Close()
	client, err := n.Client(codec.String{}, nil)
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	client.WatchPrefix(ctx, "written/", func(key string, value any) bool {
		text, _ := value.(string)
		err = put(ctx, client, strings.Replace(key, "written/", "seen/", 1), fmt.Sprint(len(text)))
		return err == nil
	})
	return err
}

// stoppableConfig is that of nodes which take nobody for failed while a test
// has one stopped.
func stoppableConfig(name string) Config {
	cfg := nodeConfig(name)
	cfg.SuspicionMult, cfg.ProbeInterval = 100, 500*time.Millisecond
	cfg.StreamTimeout = 10 * time.Second
	return cfg
}
