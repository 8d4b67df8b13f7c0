package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/polykv/polykv/kv"
)

func (a *app) getCommand() *cobra.Command {
	var output outputFormat
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Write the value of a key to stdout",
		Long: `Get writes the value of KEY to stdout, byte for byte; on a terminal a line break
follows. If the key is absent it says so on stderr and the exit code is 1.

With --output json it writes one line with a JSON object: "key", "value" (or
"value_base64" for a value that is not UTF-8) and, where the store tells versions,
"version", which put and delete take by --if-version.`,
		Example: `  polykv --config polykv.yaml get config/color
  polykv --config polykv.yaml get images/logo > logo.png
  polykv --config polykv.yaml get config/color --output json | jq .version`,
		Args: arguments(1, 1, "a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkKey(args[0]); err != nil {
				return err
			}
			return a.once(cmd.Context(), func(ctx context.Context, client kv.Client) error {
				entry, err := a.getEntry(ctx, client, args[0])
				switch {
				case err != nil:
					return err
				case entry.Value == nil:
					return a.absent(args[0])
				case output == outputJSON:
					return writeJSON(a.stdout, entryRecord(entry))
				}
				return writeValue(a.stdout, isTerminal(a.stdout), entry.Value.([]byte))
			})
		},
	}
	output.addFlag(cmd.Flags())
	return cmd
}

// getEntry reads a key, with its version if the store has versions.
func (a *app) getEntry(ctx context.Context, client kv.Client, key string) (kv.Entry, error) {
	entry := kv.Entry{Key: key}
	versioned, err := a.versioned(client)
	if err == nil {
		entry.Value, entry.Version, err = versioned.GetVersion(ctx, key)
	}
	if errors.Is(err, kv.ErrNotSupported) {
		entry.Value, err = client.Get(ctx, key)
	}
	return entry, err
}

// outputFormat is how results are written.
type outputFormat string

const (
	outputText outputFormat = "text"
	outputJSON outputFormat = "json"
)

// addFlag adds the flag --output.
func (o *outputFormat) addFlag(fs *pflag.FlagSet) {
	*o = outputText
	fs.FuncP("output", "o", "how to write what is found: the `format` text, which is the default, or json", func(text string) error {
		if *o = outputFormat(text); *o != outputText && *o != outputJSON {
			return fmt.Errorf("it must be %s or %s", outputText, outputJSON)
		}
		return nil
	})
}

// writeValue keeps a terminal's next prompt from following the value.
func writeValue(w io.Writer, terminal bool, value []byte) error {
	_, err := w.Write(value)
	if err == nil && terminal {
		_, err = io.WriteString(w, "\n")
	}
	return err
}

func isTerminal(w io.Writer) bool {
	file, ok := given(w).(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
