// Package cli is the command line of polykv as a package, so that a driver of
// somebody else's joins it with a main function of three lines:
//
//	func main() {
//		drivers := factory.Builtin()
//		if err := drivers.Add(mydriver.Driver()); err != nil {
//			log.Fatal(err)
//		}
//		cli.Main(drivers)
//	}
//
// Exit codes: 0 done; 1 a negative answer (the key is absent, a promise is
// broken); 2 wrong use (flags, arguments, configuration); 3 a failure (the
// server can't be reached, refuses, or the outcome is unknown).
package cli

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/factory"
)

// Main runs the command line of the process and exits. The first SIGINT or
// SIGTERM ends the command in good order, the second one at once.
func Main(drivers factory.Drivers) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(Run(ctx, drivers, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Run runs one command, given by its arguments without the program's name, and
// returns the exit code. The end of ctx ends the command as a signal would.
// Results go to stdout, everything else to stderr: an error is one line.
//
// Runs share nothing and may be concurrent; only the data of a named in-memory
// store is shared, as everywhere in the process.
func Run(ctx context.Context, drivers factory.Drivers, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{drivers: drivers, config: drivers.NewConfig(), stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.rootCommand()
	if args == nil {
		args = []string{} // cobra would take nil for os.Args
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return a.report(ctx, root.ExecuteContext(ctx))
}

// app is one run of the command line.
type app struct {
	drivers        factory.Drivers
	config         *factory.Config
	configFlags    *pflag.FlagSet // the flags of config
	section        string         // where config's section of the backend is, for messages; empty: its flags
	stdin          io.Reader
	stdout, stderr io.Writer

	configFile string
	timeout    time.Duration
	verbose    int
}

// logger writes to stderr what -v asks for.
func (a *app) logger() *slog.Logger {
	level := slog.LevelWarn - 4*slog.Level(a.verbose)
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}
