package cli

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/multi/migrate"
)

// cutoverFlags adds the flags of those commands that keep writes waiting.
func cutoverFlags(fs *pflag.FlagSet, o *migrate.Options) {
	fs.DurationVar(&o.MaxPause, "max-pause", migrate.DefaultMaxPause, "how long writes wait at most, before it is undone; negative: without a limit")
	fs.IntVar(&o.ExpectClients, "expect-clients", 0, "how many clients there are: refused if fewer answer; 0: at least one")
	fs.BoolVar(&o.AllowNoClients, "allow-no-clients", false, "go on though no client answers")
	fs.BoolVar(&o.AllowMisconfigured, "allow-misconfigured", false, "go on though a client looks at other stores or prefixes, or waits for less long than --max-pause")
	fs.BoolVar(&o.AllowUnreachable, "allow-unreachable", false, "go on though a client can't read or write one of the stores")
	fs.BoolVar(&o.AllowDifferences, "allow-differences", false, "go on though the stores differ, and make all keys as they are in the store to be left")
	fs.BoolVar(&o.AllowEmpty, "allow-empty", false, "go on though the store to be left holds no keys")
	fs.IntVar(&o.Workers, "workers", 64, "keys copied at the same time")
}

func (a *app) cutoverCommand() *cobra.Command {
	var o migrate.Options
	cmd := &cobra.Command{
		Use:   "cutover",
		Short: "Verify every key while writes wait, and make the target primary",
		Long: `Cutover makes sure that everything is ready: it tries what it will need rights for,
asks every client for a sign, and compares the stores while clients go on writing. If
something is in the way, it is refused, and says what and by which flag to go on all
the same. Then it seals the source, copies and verifies every key while writes
wait, and makes the target primary; the clients follow. The source becomes the
standby, for a roll-back. --dry-run shows what is in the way, the first keys that
would be deleted, and how long writes would wait.

If it fails, is interrupted, or takes longer than --max-pause while writes wait, it
undoes itself, and the exit code is 1. Closed pipes and terminals don't end it. If it is
killed, or a store is lost in the middle, writes wait until cutover or abort is run; the
exit code is then 3.`,
	}
	cutoverFlags(cmd.Flags(), &o)
	return a.recordCommand(cmd, &o, (*migrate.Migration).Cutover)
}

func (a *app) rollbackCommand() *cobra.Command {
	var o migrate.Options
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Go back to the source after a cutover",
		Long: `Rollback makes the source primary again, by a cutover in the other direction: the source was
mirrored into since, so no write is lost.`,
	}
	cutoverFlags(cmd.Flags(), &o)
	return a.recordCommand(cmd, &o, (*migrate.Migration).Rollback)
}

func (a *app) abortCommand() *cobra.Command {
	var o migrate.Options
	cmd := &cobra.Command{
		Use:   "abort",
		Short: "Undo a cutover or roll-back that was interrupted",
		Long: `Abort lets the clients write again to the store that they wrote to before a cutover or
roll-back that has not come to its end. After the end there is rollback.

It also works when the other store is lost, unless the cutover was about to make that
one primary: then it may have been, and only "polykv migrate force" is left. Run it once
more when both stores answer, to make the other one the standby again.`,
	}
	s := a.addStores(cmd.Flags())
	s.lenient = true
	return a.recordCommandOn(s, cmd, &o, (*migrate.Migration).Abort)
}

func (a *app) forceCommand() *cobra.Command {
	var o migrate.Options
	var on string
	cmd := &cobra.Command{
		Use:   "force",
		Short: "Make a store primary though the other one is lost for good",
		Long: `Force is to be used when the glass must be broken: one of the stores is lost, writes wait, and
neither cutover nor abort can help, since they need both. It makes the store named by
--on primary.

It is safe on one condition, which only you can judge: the other store is lost for
good, or nobody can write to it until "polykv migrate abort" was run once more with
both. What was written there and not yet mirrored is lost. It is refused if the other
store answers, if a client says that it still uses it, and if the store named is
retired.`,
	}
	cmd.Flags().StringVar(&on, "on", "", "the `name` of the store that is to be primary")
	s := a.addStores(cmd.Flags())
	s.lenient = true
	return a.recordCommandOn(s, cmd, &o, func(m *migrate.Migration, ctx context.Context) (migrate.Result, error) {
		if on == "" {
			return migrate.Result{}, usagef("--on is missing: the name of the store that is to be primary")
		}
		return m.Force(ctx, on)
	})
}
