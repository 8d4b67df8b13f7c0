package cli

import (
	"context"
	"errors"

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
  converge  do what a file says that is wanted, as often as you like
  abort     undo a cutover that was interrupted
  rollback  go back to the source after a cutover
  force     make a store primary though the other one is lost

What is under way is written in the stores alone. Every command may be killed and
run again, from anywhere, and by several at once. Exit codes: 0 done, or nothing
left to do; 1 refused, not ready, the stores differ, failed before it sealed anything,
or failed and undone: clients go on as before; 2 wrong use; 3 a failure, after which
writes may be waiting: look at "polykv migrate status".`,
		Example: storesExample("migrate plan") + "\n" + storesExample("migrate status"),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef(`unknown command %q for "polykv migrate"; see "polykv migrate --help"`, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.planCommand(), a.startCommand(), a.cutoverCommand(), a.finishCommand(), a.statusCommand(), a.abortCommand(), a.rollbackCommand(),
		a.convergeCommand(), a.forceCommand())
	return cmd
}

// recordChange is a method of a migration that changes records.
type recordChange = func(*migrate.Migration, context.Context) (migrate.Result, error)

// recordCommand makes a command that changes records.
func (a *app) recordCommand(cmd *cobra.Command, o *migrate.Options, do recordChange) *cobra.Command {
	return a.recordCommandOn(a.addStores(cmd.Flags()), cmd, o, do)
}

// recordCommandOn is recordCommand with stores that were prepared.
func (a *app) recordCommandOn(s *twoStores, cmd *cobra.Command, o *migrate.Options, do recordChange) *cobra.Command {
	s.async = true
	cmd.Example = storesExample("migrate " + cmd.Name())
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "tell what would be done first, and do nothing")
	return a.onTwoStores(s, cmd, o, func(ctx context.Context, s *twoStores, m *migrate.Migration) error {
		result, err := do(m, ctx)
		s.bar.clear()
		if s.json {
			return errors.Join(err, writeJSON(a.stdout, withError{result, text(err)}))
		}
		a.printFailures(err)
		var differ *migrate.DifferencesError
		if errors.As(err, &differ) {
			for _, d := range differ.Differences {
				a.printDifference(d)
			}
		}
		if o.DryRun {
			a.printForecast(result)
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
	return a.recordCommand(cmd, &o, (*migrate.Migration).Start)
}

func (a *app) finishCommand() *cobra.Command {
	var o migrate.Options
	var on string
	cmd := &cobra.Command{
		Use:   "finish",
		Short: "Compare once more, and retire the store that is no longer used",
		Long: `Finish compares both stores once more and retires the one that is no longer primary.
There is no roll-back after that, only a new migration.

Keys that differ though all clients mirror were left by a client that crashed, or
written by somebody who is not coordinated; they are listed, and nothing is changed
unless --allow-differences is given. A migration that was given up is finished with --on and the name of the source.`,
	}
	cmd.Flags().StringVar(&on, "on", "", "the `name` of the store that stays; that of the target if not given")
	cmd.Flags().BoolVar(&o.AllowDifferences, "allow-differences", false, "go on though the stores differ")
	return a.recordCommand(cmd, &o, func(m *migrate.Migration, ctx context.Context) (migrate.Result, error) { return m.Finish(ctx, on) })
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
	return a.onTwoStores(a.addStores(cmd.Flags()), cmd, &o, func(ctx context.Context, s *twoStores, m *migrate.Migration) error {
		plan, err := m.Plan(ctx)
		s.bar.clear()
		if err != nil {
			return err
		}
		if s.json {
			err = writeJSON(a.stdout, plan)
		} else {
			a.printPlan(s, plan)
		}
		if !plan.Ready {
			err = errors.Join(negative("not ready for a migration, see above"), err)
		}
		return err
	})
}
