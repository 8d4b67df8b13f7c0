package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
)

func (a *app) membersCommand() *cobra.Command {
	var flags turnFlags
	var join, data string
	cmd := &cobra.Command{
		Use:   "members NAME [--join ID -- COMMAND [ARG...]]",
		Short: "List who is there, or be there while a command runs",
		Long: `Members writes who is there under NAME, sorted: an id, a tab and the member's data on each
line, with --output json a line {"id":"...","data":"..."} each. The exit code is 1 if nobody is.
With --watch a line has all of them: {"members":[{"id":"...","data":"..."}]}.

A member that died is listed until somebody has watched it for --ttl, or up to twice as long, so
where no program of yours does that, --watch tells more than a list.

With --join and a command, this process is the member ID, with --data, while COMMAND runs; the
exit code is COMMAND's: 128 and the signal's number if a signal ended that. It is 3, and COMMAND
gets SIGTERM, and SIGKILL after --grace, if another one joins with the same id. All must say the
same --ttl. It works on every store.`,
		Example: `  polykv --config polykv.yaml members ring
  polykv --config polykv.yaml members ring --join "$HOSTNAME" --data 10.0.0.1:9095 -- ./server`,
		Args: nameAndCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(a.checkKey(args[0]), flags.check(args[1:])); err != nil {
				return err
			}
			if (join == "") != (len(args) == 1) || join == "" && data != "" {
				return usagef("a member is there while a command runs: give both --join and a command, or neither of them and no --data")
			}
			return a.steady(cmd.Context(), func(client kv.Client) error {
				p, err := coordination.NewPresence(client, args[0], coordination.Options{TTL: flags.ttl, Logger: a.logger()})
				if err != nil {
					return usage(err)
				}
				if join != "" {
					err = a.join(cmd.Context(), p, flags, join, data, args[1:])
				} else {
					err = a.members(cmd.Context(), p, flags, args[0])
				}
				return errors.Join(err, p.Close())
			})
		},
	}
	flags.add(cmd.Flags())
	cmd.Flags().StringVar(&join, "join", "", "the `id` to be there with")
	cmd.Flags().StringVar(&data, "data", "", "what others are told of the member, such as its address")
	return cmd
}

func (a *app) join(ctx context.Context, p *coordination.Presence, flags turnFlags, id, data string, command []string) error {
	joining, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	m, err := p.Join(joining, id, data)
	if err != nil {
		return a.timedOut(joining, err)
	}
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		<-m.Done() // at the latest when p is closed
		end(m.Err())
	}()
	ran := a.runCommand(running, flags.grace, command)
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	if err := m.Leave(leaving); err != nil && ran == nil {
		return err
	}
	if errors.Is(m.Err(), coordination.ErrReplaced) {
		return errors.Join(fmt.Errorf("%q: %w", id, m.Err()), ran)
	}
	return ran
}

func (a *app) members(ctx context.Context, p *coordination.Presence, flags turnFlags, name string) error {
	if flags.watch {
		return follow(ctx, a, p.Watch, func(all []coordination.Member) any { return map[string]any{"members": all} })
	}
	asking, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	members, err := p.Members(asking)
	if err != nil {
		return a.timedOut(asking, err)
	}
	if len(members) == 0 {
		return negative("nobody is there under %q", name)
	}
	out := bufio.NewWriter(a.stdout)
	for _, m := range members {
		if flags.output != outputJSON {
			fmt.Fprintf(out, "%s\t%s\n", m.ID, m.Data)
		} else if err := writeJSON(out, m); err != nil {
			return err
		}
	}
	return out.Flush()
}
