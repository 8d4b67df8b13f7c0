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
	var ifVersion versionFlag
	cmd := a.writeCommand(&cobra.Command{
		Use:   "put KEY [VALUE | -]",
		Short: "Write a value, from the argument, a file or stdin",
		Long: `Put writes VALUE to KEY, whatever the key held before. "-" for VALUE, or for the
file, reads stdin, byte for byte and with a line break at the end if there is one.

With --if-version it does so only if the key is at that version, as "get --output json"
shows it; else the exit code is 1. Version 0 is an absent key.`,
		Example: `  polykv --config polykv.yaml put config/color green
  polykv --config polykv.yaml put images/logo --file logo.png
  polykv --config polykv.yaml put config/color blue --if-version 42
  date | polykv --config polykv.yaml put last-run -`,
	}, func(ctx context.Context, client kv.Client, key string, value []byte) error {
		if ifVersion.given {
			return a.swap(ctx, client, key, ifVersion.version, value)
		}
		return client.CAS(ctx, key, func(any) (any, bool, error) { return value, false, nil })
	})
	ifVersion.addFlag(cmd.Flags(), "write the value only if the key is at this `version`")
	return cmd
}

func (a *app) createCommand() *cobra.Command {
	return a.writeCommand(&cobra.Command{
		Use:   "create KEY [VALUE | -]",
		Short: "Write a value to a key that is absent",
		Long: `Create writes VALUE to KEY if the key is absent, in one step. If it exists, nothing is
written and the exit code is 1. Where VALUE comes from is said at put.`,
		Example: `  polykv --config polykv.yaml create leader "$HOSTNAME"
  polykv --config polykv.yaml create images/logo --file logo.png`,
	}, func(ctx context.Context, client kv.Client, key string, value []byte) error {
		exists := false
		err := client.CAS(ctx, key, func(in any) (any, bool, error) {
			if exists = in != nil; exists {
				return nil, false, nil
			}
			return value, false, nil
		})
		if err == nil && exists {
			return negative("the key %q exists: nothing was written", key)
		}
		return err
	})
}

// writeCommand makes a command that writes a value.
func (a *app) writeCommand(cmd *cobra.Command, write func(ctx context.Context, client kv.Client, key string, value []byte) error) *cobra.Command {
	var file string
	cmd.Args = arguments(1, 2, "a key and a value")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		fromFile := cmd.Flags().Changed("file")
		if err := a.checkKey(args[0]); err != nil {
			return err
		}
		switch {
		case fromFile && len(args) == 2:
			return usagef("%s takes a value or --file, not both", cmd.Name())
		case !fromFile && len(args) == 1:
			return usagef(`%s needs a value: an argument, --file, or "-" for stdin`, cmd.Name())
		}
		return a.once(cmd.Context(), func(ctx context.Context, client kv.Client) error {
			value, err := a.value(ctx, client, file, args[1:])
			if err != nil {
				return err
			}
			return write(ctx, client, args[0], value)
		})
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
