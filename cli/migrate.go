package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv/multi/migrate"
)

func (a *app) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Move a fleet from one store to another, without losing a write",
		Long: `Migrate moves a fleet of clients from one store, the source, to another, the target,
while they read and write. The two are multi.primary and multi.secondary of the
clients' own configuration, or --from and --to, a file each. The roles stay as
they are configured, whichever store is primary at the moment. The commands, in
the order of use:

  plan      look at both stores for what stands in the way
  start     make the source primary and the target standby
            (then configure the clients for both stores, coordinated, and run
            "polykv copy" and "polykv verify")
  cutover   verify every key while writes wait, and make the target primary
  finish    retire the source
            (then configure the clients for the target alone)

  status    where it stands, and which clients were seen
  abort     undo a cutover that was interrupted
  rollback  go back to the source after a cutover

What is under way is written in the stores alone. Every command may be killed and
run again, from anywhere, and by several at once. Exit codes: 0 done, or nothing
left to do; 1 refused, not ready, or the stores differ; 2 wrong use; 3 a failure.`,
		Example: storesExample("migrate plan") + "\n" + storesExample("migrate status"),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef(`unknown command %q for "polykv migrate"; see "polykv migrate --help"`, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.planCommand(), a.startCommand(), a.cutoverCommand(), a.finishCommand(), a.statusCommand(), a.abortCommand(), a.rollbackCommand())
	return cmd
}

// recordCommand makes a command that changes records.
func (a *app) recordCommand(cmd *cobra.Command, o *migrate.Options, do func(ctx context.Context, m *migrate.Migration) (migrate.Result, error)) *cobra.Command {
	cmd.Example = storesExample("migrate " + cmd.Name())
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "tell what would be done first, and do nothing")
	quiet := false
	opts := func() migrate.Options {
		o.Changed = func(c migrate.Change) {
			if !quiet {
				a.printChange(c, o.DryRun)
			}
		}
		return *o
	}
	return a.twoStoreCommand(cmd, opts, func(ctx context.Context, s *twoStores, m *migrate.Migration) error {
		quiet = s.json
		result, err := do(ctx, m)
		s.bar.clear()
		if s.json {
			return errors.Join(err, a.printJSON(withError{result, text(err)}))
		}
		a.printFailures(err)
		var differ *migrate.DifferencesError
		if errors.As(err, &differ) {
			for _, d := range differ.Differences {
				a.printDifference(d)
			}
		}
		if err != nil {
			return err
		}
		a.printResult(s, result)
		return nil
	})
}

func (a *app) startCommand() *cobra.Command {
	var o migrate.Options
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Make the source primary and the target standby",
		Long: `Start writes the records that say that the source is primary and the target its standby. Run
it while the clients use the source alone, and configure them for both stores,
coordinated, afterwards: they mirror into the target from then on.

It is refused if the target holds keys: those that the source doesn't have will be deleted,
so it takes --allow-keys.`,
	}
	cmd.Flags().BoolVar(&o.AllowKeys, "allow-keys", false, "go on though the target holds keys, which may be deleted")
	return a.recordCommand(cmd, &o, func(ctx context.Context, m *migrate.Migration) (migrate.Result, error) { return m.Start(ctx) })
}

func (a *app) cutoverCommand() *cobra.Command {
	var o migrate.Options
	cmd := &cobra.Command{
		Use:   "cutover",
		Short: "Verify every key while writes wait, and make the target primary",
		Long: `Cutover copies what differs while clients go on writing, then seals the source, copies
and verifies every key while writes wait, and makes the target primary; the clients
follow. The source becomes the standby, for a roll-back.

If it fails or is interrupted while writes wait, it undoes itself. If it is killed,
writes wait until cutover or abort is run.`,
	}
	return a.recordCommand(cmd, &o, func(ctx context.Context, m *migrate.Migration) (migrate.Result, error) { return m.Cutover(ctx) })
}

func (a *app) rollbackCommand() *cobra.Command {
	var o migrate.Options
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Go back to the source after a cutover",
		Long: `Rollback makes the source primary again, by a cutover in the other direction: the source was
mirrored into since, so no write is lost.`,
	}
	return a.recordCommand(cmd, &o, func(ctx context.Context, m *migrate.Migration) (migrate.Result, error) { return m.Rollback(ctx) })
}

func (a *app) abortCommand() *cobra.Command {
	var o migrate.Options
	cmd := &cobra.Command{
		Use:   "abort",
		Short: "Undo a cutover or roll-back that was interrupted",
		Long: `Abort lets the clients write again to the store that they wrote to before a cutover or
roll-back that has not come to its end. After the end there is rollback.`,
	}
	return a.recordCommand(cmd, &o, func(ctx context.Context, m *migrate.Migration) (migrate.Result, error) { return m.Abort(ctx) })
}

func (a *app) finishCommand() *cobra.Command {
	var o migrate.Options
	var on string
	cmd := &cobra.Command{
		Use:   "finish",
		Short: "Compare once more, and retire the store that is no longer used",
		Long: `Finish compares both stores once more and retires the one that is no longer primary.
There is no roll-back after that, only a new migration.

Keys that differ though all clients mirror were written by somebody who is not
coordinated; they are listed, and nothing is changed unless --allow-differences is
given. A migration that was given up is finished with --on and the name of the source.`,
	}
	cmd.Flags().StringVar(&on, "on", "", "the `name` of the store that stays; that of the target if not given")
	cmd.Flags().BoolVar(&o.AllowDifferences, "allow-differences", false, "go on though the stores differ")
	return a.recordCommand(cmd, &o, func(ctx context.Context, m *migrate.Migration) (migrate.Result, error) { return m.Finish(ctx, on) })
}

func (a *app) planCommand() *cobra.Command {
	var o migrate.Options
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Look at both stores for what stands in the way of a migration",
		Long: `Plan reads every key of both stores and checks the sizes against the limits of both,
guarded writes included, the keys that polykv can't see, guards, permissions and
the records. The exit code is 1 if anything stands in the way. It writes and removes
a reserved key in each store to learn whether it may, unless --dry-run is given.`,
		Example: storesExample("migrate plan"),
	}
	cmd.Flags().BoolVar(&o.AllowKeys, "allow-keys", false, "take it for good that the target holds keys")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "write nothing at all")
	return a.twoStoreCommand(cmd, func() migrate.Options { return o }, func(ctx context.Context, s *twoStores, m *migrate.Migration) error {
		plan, err := m.Plan(ctx)
		s.bar.clear()
		if err != nil {
			return err
		}
		if s.json {
			err = a.printJSON(plan)
		} else {
			a.printPlan(s, plan)
		}
		if !plan.Ready {
			err = errors.Join(negative("not ready for a migration, see above"), err)
		}
		return err
	})
}

func (a *app) statusCommand() *cobra.Command {
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show where a migration stands, and which clients were seen",
		Long: `Status shows both records, what comes next, the clients that were seen in the last
minute, and how many keys wait to be mirrored. Clients that are not coordinated
can't be seen. With --every it goes on until it is interrupted, and then tells
who is gone by watching, without comparing clocks.`,
		Example: storesExample("migrate status") + "\n" + storesExample("migrate status --every 5s"),
	}
	cmd.Flags().DurationVar(&every, "every", 0, "show it again after this time, until interrupted")
	return a.twoStoreCommand(cmd, func() migrate.Options { return migrate.Options{} }, func(ctx context.Context, s *twoStores, m *migrate.Migration) error {
		if every < 0 {
			return usagef("--every %v: it must not be negative", every)
		}
		for {
			status, err := m.Status(ctx)
			switch {
			case err != nil && every > 0 && ctx.Err() != nil:
				return nil // being interrupted is how it ends
			case err != nil:
				return err
			case s.json:
				err = a.printJSON(status)
			default:
				a.printStatus(s, status)
			}
			if err != nil || every == 0 {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(every):
				if !s.json {
					fmt.Fprintln(a.stdout)
				}
			}
		}
	})
}
