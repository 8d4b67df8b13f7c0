package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/cli/internal/demo"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv/factory"
)

// demoFlags are the flags of "polykv demo".
type demoFlags struct {
	from, to     string
	startServers bool
	processes    bool
	clients      int
	workers      int
	counters     int
	duration     time.Duration
}

// settle is how long the demo's watchers may take to catch up at the end.
const settle = 15 * time.Second

func (a *app) demoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Let clients count, create, delete and watch while their data is moved, and check every promise",
		Long: `Demo lets several clients count shared counters up, create and delete keys, and
follow by watches what they see, all at once and on the same keys. In the middle of
that it moves the data from one store to another under them, by a coordinated
migration. Then it checks what polykv promises and prints a table. The exit code is 1
if a promise is broken.

It works on the backend inmemory unless --from or the configuration names another, and
moves to the same backend unless --to names another. Each side has a prefix of its own
that is emptied at the end, also if the demo is interrupted.

With --processes each client is in a process of its own, as those of a fleet are. The
stores must then be ones that processes can share, so not inmemory.`,
		Example: `  polykv demo
  polykv demo --from consul --to etcd --start-servers
  polykv demo --from consul --to etcd --start-servers --processes
  polykv demo --from etcd --etcd.endpoints 127.0.0.1:2379 --clients 8 --duration 30s`,
		Args: arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.prepareDemo(f); err != nil {
				return err
			}
			return a.demo(cmd.Context(), f)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.from, "from", "", "the `backend` to run on; the same as --backend")
	fs.StringVar(&f.to, "to", "", "the `backend` to move to; the same as --from if it is left out")
	fs.BoolVar(&f.startServers, "start-servers", false, "start a server of each backend for the demo; it is compiled the first time")
	fs.BoolVar(&f.processes, "processes", false, "run each client in a process of its own; not with the backend inmemory")
	fs.IntVar(&f.clients, "clients", 4, "clients, each with connections and watches of its own")
	fs.IntVar(&f.workers, "workers", 8, "concurrent workers of each client")
	fs.IntVar(&f.counters, "counters", 8, "counters that all workers share")
	fs.DurationVar(&f.duration, "duration", 5*time.Second, "how long to run")
	_ = cmd.RegisterFlagCompletionFunc("from", a.completeBackend) // fails only if there is no such flag
	_ = cmd.RegisterFlagCompletionFunc("to", a.completeBackend)
	return cmd
}

// starter starts a server of one backend, and settles the configuration on it.
type starter struct {
	start func(context.Context, testserver.Options) (*testserver.Cluster, error)
	use   func(*factory.Config, *testserver.Cluster)
}

// starterOf returns nil for a backend without a server to start.
func starterOf(backend string) *starter {
	switch backend {
	case "consul":
		return &starter{testserver.StartConsul, func(c *factory.Config, cl *testserver.Cluster) { c.Consul.Address = cl.Endpoints()[0] }}
	case "etcd":
		return &starter{testserver.StartEtcd, func(c *factory.Config, cl *testserver.Cluster) { c.Etcd.Endpoints = cl.Endpoints() }}
	default:
		return nil
	}
}

// prepareDemo settles the configuration, and finds what is wrong before
// anything is started.
func (a *app) prepareDemo(f demoFlags) error {
	if err := a.load(); err != nil {
		return err
	}
	for _, number := range []struct {
		flag  string
		value int
	}{{"clients", f.clients}, {"workers", f.workers}, {"counters", f.counters}, {"duration", int(f.duration)}} {
		if number.value <= 0 {
			return usagef("--%s must be more than 0", number.flag)
		}
	}
	c := a.config
	switch {
	case f.from != "" && c.Backend != "" && f.from != c.Backend:
		return usagef("--from is %q and the backend is %q; give one of them, or the same", f.from, c.Backend)
	case f.from != "":
		c.Backend = f.from
	case c.Backend == "":
		c.Backend = "inmemory"
	}
	if err := cmp.Or(c.Validate(), a.checkTarget(f)); err != nil {
		return err
	}
	name := make([]byte, 4)
	rand.Read(name) // never fails
	c.Prefix += "polykv-demo/" + hex.EncodeToString(name) + "/"
	c.InMemory.Name = cmp.Or(c.InMemory.Name, c.Prefix)
	return nil
}

// checkTarget finds what is wrong with where to move, and with the servers.
func (a *app) checkTarget(f demoFlags) error {
	backends := []string{a.config.Backend, cmp.Or(f.to, a.config.Backend)}
	for _, backend := range backends {
		if f.startServers && starterOf(backend) == nil && backend != "inmemory" || f.startServers && backends[0] == "inmemory" && backends[1] == "inmemory" {
			return usagef("--start-servers: there is no server of %q to start; give --from consul or --from etcd", backend)
		}
		if f.processes && backend == "inmemory" {
			return usagef("--processes: the backend inmemory can't be shared between processes, whose memory is their own; give another --from and --to")
		}
	}
	if f.to == "" {
		return nil
	}
	target := a.drivers.NewConfig()
	a.copySections(target, a.config)
	target.Backend = f.to
	if err := target.Validate(); err != nil {
		return usagef("--to: %w", err)
	}
	return nil
}

// demo runs the demo on a configuration that is settled.
func (a *app) demo(ctx context.Context, f demoFlags) (err error) {
	a.ignorePipes() // there are keys to remove, whether or not anybody reads
	to := cmp.Or(f.to, a.config.Backend)
	if f.startServers {
		stop, startErr := a.startServers(ctx, a.config.Backend, to)
		defer func() { err = errors.Join(err, stop()) }()
		if startErr != nil {
			return startErr
		}
	}
	s, err := a.newStage(ctx, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	where, open := "", s.open
	if f.processes {
		where, open = " in processes of their own", s.openProcess
	}
	fmt.Fprintf(a.stdout, "polykv demo on %s for %v: clients %d%s, workers of each %d, counters %d, keys below %s\n\n",
		s.describe(), f.duration, f.clients, where, f.workers, f.counters, a.config.Prefix)
	progress := newProgress(a.stderr, isTerminal(a.stderr), f.duration)
	report, err := demo.Run(ctx, demo.Options{
		Open: open, Clients: f.clients, Workers: f.workers, Counters: f.counters,
		Duration: f.duration, Settle: settle, Progress: progress.show, Move: s.move(),
	})
	if err == nil || !errors.Is(err, demo.ErrLeftBehind) {
		err = errors.Join(err, s.sweep(context.WithoutCancel(ctx)))
	}
	progress.finish()
	left := errors.Is(err, demo.ErrLeftBehind)
	err = a.explainTrouble(err)
	if left {
		err = because(err, "%v; keys of the demo may be left below %s", err, a.config.Prefix)
	}
	if report == nil {
		return err
	}
	if ctx.Err() != nil {
		fmt.Fprintln(a.stderr, "interrupted; this is what ran until then")
	}
	err = errors.Join(err, report.Print(a.stdout))
	if n := report.Broken(); n > 0 {
		err = errors.Join(negative("a promise is broken, see above"), err)
	}
	return err
}

// store names the backend and where it is.
func (a *app) store() string {
	if address := a.config.Target().Address; address != "" {
		return a.config.Backend + " at " + address
	}
	return a.config.Backend
}
