package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/polykv/polykv/kv/memberlist"
)

func (a *app) gossipCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gossip COMMAND",
		Short: "Run a node of a gossip cluster, or look into one",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usagef(`unknown command "gossip %s"; see "polykv gossip --help"`, args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.gossipRunCommand(), a.gossipInspectCommand())
	return cmd
}

// gossipConfig returns the section of the backend memberlist, whichever backend
// is chosen.
func (a *app) gossipConfig() (memberlist.Config, error) {
	if err := a.load(); err != nil {
		return memberlist.Config{}, err
	}
	cfg, ok := a.config.Section("memberlist").(*memberlist.Config)
	if !ok {
		return memberlist.Config{}, usagef("this program has no backend memberlist; its backends are: %s", a.drivers)
	}
	if err := cfg.Validate(); err != nil {
		return memberlist.Config{}, usagef("--memberlist: %w", err)
	}
	return *cfg, nil
}

func (a *app) gossipRunCommand() *cobra.Command {
	var address, health string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a node and its status page until it is interrupted",
		Long: `Run takes part in a gossip cluster as the flags --memberlist.* say, and serves a page
that shows the members, the keys with their values, deletions, queues and recent
messages; the same as JSON with ?format=json. It writes one line with the node's address
and one with the page's, and leaves the cluster when it is interrupted.

With --health it serves a second page for probes, such as Kubernetes', which has no data:
status 200 while the node exchanges changes with others or has met nobody yet, else 503.

The node keeps values of plain bytes and strings, and those of the codecs named by
--memberlist.keep-values and --memberlist.keep-maps, which it passes on without reading them.
It warns of the ids that it misses.`,
		Example: `  polykv gossip run --memberlist.bind-address 127.0.0.1
  polykv gossip run --memberlist.join node-1:7946 --http :8080
  polykv gossip run --memberlist.join node-1:7946 --memberlist.keep-maps map/json --memberlist.keep-values json`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.gossipRun(cmd.Context(), address, health) },
	}
	cmd.Flags().StringVar(&health, "health", "", "address of a page for probes, such as :7981; empty: none")
	cmd.Flags().StringVar(&address, "http", "127.0.0.1:7980", "address of the status page; empty: none. Whoever reaches it can read all keys and values")
	return cmd
}

func (a *app) gossipRun(ctx context.Context, address, health string) error {
	cfg, err := a.gossipConfig()
	if err != nil {
		return err
	}
	node, err := memberlist.StartWith(ctx, cfg, memberlist.Options{Logger: a.logger()})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "node %s at %s\n", node.Name(), node.Address())
	return errors.Join(a.servePages(ctx, address, health, node), node.Close())
}

// servePages serves a node's pages until ctx ends or one of them fails.
func (a *app) servePages(ctx context.Context, address, health string, node *memberlist.Node) error {
	pages, ctx := errgroup.WithContext(ctx)
	for _, page := range []struct {
		flag, address string
		handler       http.Handler
	}{{"--http", address, node.StatusHandler()}, {"--health", health, node.HealthHandler()}} {
		if page.address == "" {
			continue
		}
		serve, err := a.listenPage(ctx, page.flag, page.address, page.handler)
		if err != nil {
			serve = func() error { return err }
		}
		pages.Go(serve)
	}
	<-ctx.Done()
	return pages.Wait()
}

// servePage serves a page until ctx ends. flag is what the address was given by.
func (a *app) servePage(ctx context.Context, flag, address string, page http.Handler) error {
	serve, err := a.listenPage(ctx, flag, address, page)
	if err != nil {
		return err
	}
	return serve()
}

// listenPage opens the port of a page and says where it is; serve serves it
// until ctx ends.
func (a *app) listenPage(ctx context.Context, flag, address string, page http.Handler) (serve func() error, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, usagef("%s: %w", flag, err)
	}
	server := &http.Server{Handler: page, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	fmt.Fprintf(a.stdout, "page http://%s/\n", listener.Addr())
	return func() error { return serveUntil(ctx, server, listener) }, nil
}

func serveUntil(ctx context.Context, server *http.Server, listener net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("the status page: %w", err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if server.Shutdown(ending) != nil {
		_ = server.Close() // somebody reads slowly; the node's end doesn't wait for that
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
