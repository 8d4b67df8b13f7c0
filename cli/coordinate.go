package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv"
)

// turnFlags are those of commands that take part in something and may run a
// command meanwhile.
type turnFlags struct {
	ttl, grace time.Duration
	watch      bool
	output     outputFormat
}

func (f *turnFlags) add(fs *pflag.FlagSet) {
	fs.DurationVar(&f.ttl, "ttl", 15*time.Second, "for how long a participant may be silent before others take it for dead")
	fs.DurationVar(&f.grace, "grace", 10*time.Second, "for how long COMMAND may go on after SIGTERM")
	fs.BoolVar(&f.watch, "watch", false, "write a line of JSON now and after each change, until interrupted")
	f.output.addFlag(fs)
}

func (f *turnFlags) check(command []string) error {
	switch {
	case f.grace < 0:
		return usagef("--grace %v: it must not be negative", f.grace)
	case f.watch && len(command) > 0:
		return usagef("--watch follows and runs no command; leave one of them out")
	}
	return nil
}

// nameAndCommand are the arguments of NAME [-- COMMAND [ARG...]].
func nameAndCommand(cmd *cobra.Command, args []string) error {
	if dash := cmd.ArgsLenAtDash(); len(args) == 1 && dash < 0 || dash == 1 && len(args) > 1 {
		return nil
	}
	return usagef(`%s needs a name, and may have "--" and a command after it; see %q`, cmd.Name(), cmd.CommandPath()+" --help")
}

// steady opens a client, does what takes its time with it, and closes it.
func (a *app) steady(ctx context.Context, do func(kv.Client) error) error {
	client, err := a.client(ctx)
	if err != nil {
		return err
	}
	return errors.Join(a.explainTrouble(do(client)), client.Close())
}

// writeJSON writes a line.
func writeJSON(w io.Writer, line any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(line)
}
