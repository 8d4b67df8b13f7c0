package cli

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv"
)

func (a *app) putCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "put KEY [VALUE | -]",
		Short: "Write a value, from the argument, a file or stdin",
		Long: `Put writes VALUE to KEY, whatever the key held before. "-" for VALUE, or for the
file, reads stdin, byte for byte and with a line break at the end if there is one.`,
		Example: `  polykv --config polykv.yaml put config/color green
  polykv --config polykv.yaml put images/logo --file logo.png
  date | polykv --config polykv.yaml put last-run -`,
		Args:              arguments(1, 2, "a key and a value"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			fromFile := cmd.Flags().Changed("file")
			switch err := kv.CheckKey(args[0]); {
			case err != nil:
				return err
			case fromFile && len(args) == 2:
				return usagef("put takes a value or --file, not both")
			case !fromFile && len(args) == 1:
				return usagef(`put needs a value: an argument, --file, or "-" for stdin`)
			}
			return a.once(cmd.Context(), func(ctx context.Context, client kv.Client) error {
				value, err := a.value(ctx, client, file, args[1:])
				if err != nil {
					return err
				}
				return client.CAS(ctx, args[0], func(any) (any, bool, error) { return value, false, nil })
			})
		},
	}
	cmd.Flags().StringVar(&file, "file", "", `read the value from this `+"`path`"+`; "-" is stdin`)
	return cmd
}

// value finds the value to put. What is too large for the client is not read
// to its end.
func (a *app) value(ctx context.Context, client kv.Client, file string, args []string) ([]byte, error) {
	source := a.stdin
	switch {
	case len(args) == 1 && args[0] != "-":
		return []byte(args[0]), nil
	case len(args) == 0 && file != "-":
		opened, err := os.Open(file)
		if err != nil {
			return nil, usagef("--file: %w", err)
		}
		defer opened.Close()
		source = opened
	}
	most := 0
	if limits, err := kv.LimitsOf(client); err == nil && limits.Value > 0 {
		most = limits.Value
		source = io.LimitReader(source, int64(most)+1)
	}
	value, err := readAll(ctx, source)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the value: %w", err)
	case most > 0 && len(value) > most:
		return nil, fmt.Errorf("%w: the value has more than %d bytes, the most that this backend takes", kv.ErrTooLarge, most)
	}
	return value, nil
}

// readAll is io.ReadAll that ends with ctx: a read of a terminal doesn't. The
// goroutine then lives as long as the process, or until stdin ends.
func readAll(ctx context.Context, r io.Reader) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := io.ReadAll(r)
		done <- result{data, err}
	}()
	select {
	case got := <-done:
		return got.data, got.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
