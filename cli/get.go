package cli

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/polykv/polykv/kv"
)

func (a *app) getCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "get KEY",
		Short: "Write the value of a key to stdout",
		Long: `Get writes the value of KEY to stdout, byte for byte; on a terminal a line break
follows. If the key is absent it says so on stderr and the exit code is 1.`,
		Example: `  polykv --config polykv.yaml get config/color
  polykv --config polykv.yaml get images/logo > logo.png`,
		Args:              arguments(1, 1, "a key"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := kv.CheckKey(args[0]); err != nil {
				return err
			}
			return a.once(cmd.Context(), func(ctx context.Context, client kv.Client) error {
				value, err := client.Get(ctx, args[0])
				if err != nil {
					return err
				}
				if value == nil {
					return negative("the key %q is absent", args[0])
				}
				return writeValue(a.stdout, isTerminal(a.stdout), value.([]byte))
			})
		},
	}
}

// writeValue keeps a terminal's next prompt from following the value.
func writeValue(w io.Writer, terminal bool, value []byte) error {
	_, err := w.Write(value)
	if err == nil && terminal {
		_, err = io.WriteString(w, "\n")
	}
	return err
}

func isTerminal(w any) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
