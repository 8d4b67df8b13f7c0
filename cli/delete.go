package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv"
)

func (a *app) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "delete KEY",
		Short:             "Delete a key",
		Long:              `Delete removes KEY. Deleting an absent key is no error.`,
		Example:           `  polykv --config polykv.yaml delete config/color`,
		Args:              arguments(1, 1, "a key"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := kv.CheckKey(args[0]); err != nil {
				return err
			}
			return a.once(cmd.Context(), func(ctx context.Context, client kv.Client) error {
				return client.Delete(ctx, args[0])
			})
		},
	}
}
