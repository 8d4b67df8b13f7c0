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
// Flags may also be given by environment variables that begin with POLYKV_, such
// as POLYKV_ETCD_PASSWORD for --etcd.password (factory.Config.LoadEnv), and
// POLYKV_CONFIG, POLYKV_CONFIG_SECTION and POLYKV_TIMEOUT.
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
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// Main runs the command line of the process and exits. The first SIGINT,
// SIGTERM or SIGHUP ends the command in good order, the second one at once.
func Main(drivers factory.Drivers) {
	ctx := interruptible()
	a := newApp(drivers, os.Stdin, os.Stdout, os.Stderr)
	a.ignorePipes = func() { signal.Ignore(syscall.SIGPIPE) }
	os.Exit(a.run(ctx, os.Args[1:]))
}

// interruptible returns a context that the first signal ends, with a cause
// that names it.
func interruptible() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		s := <-signals
		signal.Reset(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		cancel(&signalError{s})
	}()
	return ctx
}

// signalError says by which signal a command was interrupted.
type signalError struct{ signal os.Signal }

func (e *signalError) Error() string {
	switch e.signal {
	case os.Interrupt:
		return "interrupted by SIGINT"
	case syscall.SIGTERM:
		return "interrupted by SIGTERM"
	case syscall.SIGHUP:
		return "interrupted by SIGHUP, the end of its terminal"
	}
	return "interrupted"
}

// Run runs one command, given by its arguments without the program's name, and
// returns the exit code. The end of ctx ends the command as a signal would.
// Results go to stdout, everything else to stderr: an error is one line.
//
// Runs share nothing and may be concurrent; only the data of a named in-memory
// store is shared, as everywhere in the process.
func Run(ctx context.Context, drivers factory.Drivers, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return newApp(drivers, stdin, stdout, stderr).run(ctx, args)
}

func newApp(drivers factory.Drivers, stdin io.Reader, stdout, stderr io.Writer) *app {
	return &app{drivers: drivers, config: drivers.NewConfig(), skipped: &migrate.Skipped{}, stdin: stdin, stdout: stdout, stderr: stderr, ignorePipes: func() {}}
}

func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	if args == nil {
		args = []string{} // cobra would take nil for os.Args
	}
	root.SetArgs(args)
	answer := &answer{Writer: a.stdout}
	a.stdout = answer
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if lost := answer.lost.Load(); err == nil && lost != nil {
		err = *lost
	}
	return a.report(ctx, err)
}

// answer is stdout, which remembers that something could not be written: a command
// whose answer got lost has not done what it was asked for.
type answer struct {
	io.Writer
	lost atomic.Pointer[error]
}

func (a *answer) Write(p []byte) (int, error) {
	n, err := a.Writer.Write(p)
	if err != nil {
		a.lost.Store(&err)
	}
	return n, err
}

// given returns the writer that the command line was given for w.
func given(w io.Writer) io.Writer {
	if a, ok := w.(*answer); ok {
		return a.Writer
	}
	return w
}

// app is one run of the command line.
type app struct {
	drivers        factory.Drivers
	config         *factory.Config
	configFlags    *pflag.FlagSet // the flags of config
	ownFlags       *pflag.FlagSet // those of every command, the flags of config included
	section        string         // where config's section of the backend is, for messages; empty: its flags
	stdin          io.Reader
	stdout, stderr io.Writer
	ignorePipes    func() // has writing to a closed pipe fail rather than end the process

	configFile    string
	configSection string
	timeout       time.Duration
	verbose       int

	skipped *migrate.Skipped // what the client's engine left out
	node    *memberlist.Node // of the client, if its backend is gossip
}

// envPrefix begins the names of the environment variables that are read.
const envPrefix = "POLYKV_"

// logger writes to stderr what -v asks for.
func (a *app) logger() *slog.Logger {
	level := slog.LevelWarn - 4*slog.Level(a.verbose)
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}
