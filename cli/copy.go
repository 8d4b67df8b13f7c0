package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv/multi/migrate"
)

func (a *app) copyCommand() *cobra.Command {
	var o migrate.CopyOptions
	var options migrate.Options
	cmd := &cobra.Command{
		Use:   "copy",
		Short: "Copy every key of one store to another, as often as you like",
		Long: `Copy makes the keys of the target, multi.secondary or --to, equal to those of the
source, multi.primary or --from: their stored bytes, whatever the codec. It copies only what differs, so it may be
interrupted and run again, and several may run at once. Keys that only the target has
stay unless --delete is given.

While a migration is under way, its records say in which direction to copy, and
guard each write, so that copying may go on while clients write; in the states
in which it must not, copy is refused. Without a migration nothing guards its
writes: nobody else should write to the target then.

The exit code is 1 if copy is refused, 3 if some keys could not be copied.`,
		Example: storesExample("copy") + "\n" + storesExample("copy --dry-run --delete"),
	}
	fs := cmd.Flags()
	fs.StringVar(&o.Prefix, "keys", "", "only keys that begin with this `prefix`")
	fs.BoolVar(&o.DeleteExtra, "delete", false, "delete keys that only the target has")
	fs.BoolVar(&options.DryRun, "dry-run", false, "only count what would be done")
	fs.IntVar(&options.Workers, "workers", 64, "keys copied at the same time")
	s := a.addStores(cmd.Flags())
	s.patient = true
	return a.onTwoStores(s, cmd, &options, func(ctx context.Context, s *twoStores, m *migrate.Migration) error {
		s.bar.prefix = o.Prefix
		result, err := m.Copy(ctx, o)
		s.bar.clear()
		if result.From == "" {
			return err // it did not begin
		}
		if s.json {
			return errors.Join(err, writeJSON(a.stdout, withError{result, text(err)}))
		}
		would := ""
		if result.DryRun {
			would = "would have "
		}
		fmt.Fprintf(a.stdout, "%s to %s: %s keys compared, %scopied %s, deleted %s", result.From, result.To,
			thousands(result.Keys), would, thousands(result.Copied), thousands(result.Deleted))
		if result.Kept > 0 {
			fmt.Fprintf(a.stdout, ", kept %s that only %s has", thousands(result.Kept), result.To)
		}
		fmt.Fprintln(a.stdout)
		a.printFailures(err)
		return err
	})
}

// printFailures lists the keys that could not be copied.
func (a *app) printFailures(err error) {
	var failed *migrate.FailedError
	if !errors.As(err, &failed) {
		return
	}
	for _, f := range failed.Failures {
		fmt.Fprintf(a.stdout, "failed     %s  %v\n", f.Key, f.Err)
	}
	if more := failed.Count - len(failed.Failures); more > 0 {
		fmt.Fprintf(a.stdout, "           and %s more\n", thousands(more))
	}
}

// withError is a result with what ended it.
type withError struct {
	Result any    `json:"result"`
	Error  string `json:"error,omitempty"`
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
