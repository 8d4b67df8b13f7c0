package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
)

func (a *app) electCommand() *cobra.Command {
	var flags turnFlags
	var value string
	cmd := &cobra.Command{
		Use:   "elect NAME [-- COMMAND [ARG...]]",
		Short: "Run a command as the elected leader, or say who leads",
		Long: `Elect NAME writes what the leader of the election NAME says of itself. The exit code is 1
if nobody leads. A leader that died counts until its time is up. With --output json, and with
--watch, a line is {"id":"...","value":"...","term":1}, and {} if nobody leads.

With a command, elect stands for election until it leads, runs COMMAND, and resigns when that
ends. Its exit code is COMMAND's: 128 and the signal's number if a signal ended that. --value is
what it says of itself. If the leadership is lost, COMMAND gets SIGTERM, and SIGKILL after
--grace; the exit code is 3. COMMAND finds the fence in its environment, as with polykv lock:
LOCK_NAME, LOCK_TERM, LOCK_GUARD_KEY and LOCK_GUARD_VERSION.

All that take part in one election must say the same --ttl. On gossip there are no elections.`,
		Example: `  polykv --config polykv.yaml elect leaders/compactor --value "$HOSTNAME" -- ./compactor
  polykv --config polykv.yaml elect leaders/compactor`,
		Args: nameAndCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(a.checkKey(args[0]), flags.check(args[1:])); err != nil {
				return err
			}
			if value != "" && len(args) == 1 {
				return usagef("--value is what a leader says of itself, which takes a command to run")
			}
			return a.steady(cmd.Context(), func(client kv.Client) error {
				return a.elect(cmd.Context(), client, flags, value, args[0], args[1:])
			})
		},
	}
	flags.add(cmd.Flags())
	cmd.Flags().StringVar(&value, "value", "", "what the leader says of itself, such as its address")
	return cmd
}

// leaderLine is a line about a leader.
type leaderLine struct {
	ID    string `json:"id,omitempty"`
	Value string `json:"value,omitempty"`
	Term  uint64 `json:"term,omitempty"`
}

func (a *app) elect(ctx context.Context, client kv.Client, flags turnFlags, value, name string, command []string) (err error) {
	e, err := coordination.NewElection(client, name, coordination.Options{TTL: flags.ttl, Logger: a.logger()})
	if err != nil {
		return usage(err)
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	switch {
	case len(command) > 0:
		held, err := e.Campaign(ctx, value)
		if err != nil {
			return err
		}
		return a.runHeld(ctx, held, flags.grace, name, command)
	case flags.watch:
		return follow(ctx, a, e.Observe, func(l coordination.Leader) any { return leaderLine(l) })
	}
	asking, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	leader, exists, err := e.Leader(asking)
	switch {
	case err != nil:
		return a.timedOut(asking, err)
	case !exists:
		return negative("nobody leads %q", name)
	case flags.output == outputJSON:
		return writeJSON(a.stdout, leaderLine(leader))
	}
	_, err = fmt.Fprintln(a.stdout, leader.Value)
	return err
}
