package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv"
)

func (a *app) deleteCommand() *cobra.Command {
	var ifVersion versionFlag
	cmd := &cobra.Command{
		Use:   "delete KEY",
		Short: "Delete a key",
		Long: `Delete removes KEY. Deleting an absent key is no error.

With --if-version it does so only if the key is at that version, as "get --output json"
shows it; else the exit code is 1.`,
		Example: `  polykv --config polykv.yaml delete config/color
  polykv --config polykv.yaml delete config/color --if-version 42`,
		Args: arguments(1, 1, "a key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkKey(args[0]); err != nil {
				return err
			}
			if ifVersion.given && ifVersion.version == 0 {
				return usagef("--if-version 0 is an absent key, which there is no need to delete")
			}
			return a.once(cmd.Context(), func(ctx context.Context, client kv.Client) error {
				if ifVersion.given {
					return a.swap(ctx, client, args[0], ifVersion.version, kv.Remove)
				}
				if err := a.mayDelete(ctx, client, args[0]); err != nil {
					return err
				}
				return client.Delete(ctx, args[0])
			})
		},
	}
	ifVersion.addFlag(cmd.Flags(), "delete the key only if it is at this `version`")
	return cmd
}

// mayDelete returns an error if nothing would be done because this command
// doesn't see the key.
func (a *app) mayDelete(ctx context.Context, client kv.Client, key string) error {
	if a.unreadable() == "" {
		return nil
	}
	value, err := client.Get(ctx, key)
	if value == nil && err == nil {
		return a.absent(key)
	}
	return nil // Delete needs no value
}
