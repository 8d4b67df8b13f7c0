package cli

import (
	"bufio"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv"
)

func (a *app) listCommand() *cobra.Command {
	var values bool
	var output outputFormat
	cmd := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List the keys that begin with a prefix",
		Long: `List writes the keys that begin with PREFIX, sorted, one a line; without PREFIX all.
With --values each line is a JSON object with "key" and "value", or "value_base64"
for a value that is not UTF-8; with --output json "version" too, where the store tells
versions.

Keys that the store has and polykv's rules forbid are left out, and stderr says how many.`,
		Example: `  polykv --config polykv.yaml list config/
  polykv --config polykv.yaml list --values config/ | jq -r .value`,
		Args: arguments(0, 1, "one prefix at most"),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := ""
			if len(args) == 1 {
				prefix = args[0]
			}
			return a.once(cmd.Context(), func(ctx context.Context, client kv.Client) error {
				out := bufio.NewWriter(a.stdout)
				var err error
				if values || output == outputJSON {
					err = a.listEntries(ctx, client, prefix, out, output == outputJSON)
				} else {
					err = listKeys(ctx, client, prefix, out)
				}
				if err != nil {
					return err
				}
				a.noteUnreadable()
				return out.Flush()
			})
		},
	}
	output.addFlag(cmd.Flags())
	cmd.Flags().BoolVar(&values, "values", false, "list the values too, as JSON lines")
	return cmd
}

func listKeys(ctx context.Context, client kv.Client, prefix string, out *bufio.Writer) error {
	keys, err := client.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, key := range keys {
		fmt.Fprintln(out, key)
	}
	return nil
}

func (a *app) listEntries(ctx context.Context, client kv.Client, prefix string, out *bufio.Writer, versions bool) error {
	_, err := a.versioned(client)
	versions = versions && err == nil
	for entry, err := range kv.Entries(ctx, client, prefix) {
		if err != nil {
			return err
		}
		if !versions {
			entry.Version = 0
		}
		if err := writeJSON(out, entryRecord(entry)); err != nil {
			return err
		}
	}
	return nil
}
