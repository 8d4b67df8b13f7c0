package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
)

// lockFlags are those of "polykv lock".
type lockFlags struct {
	ttl, grace time.Duration
	noWait     bool
}

func (a *app) lockCommand() *cobra.Command {
	var flags lockFlags
	cmd := &cobra.Command{
		Use:   "lock NAME -- COMMAND [ARG...]",
		Short: "Run a command while a lock is held",
		Long: `Lock waits until it has the lock NAME, first come, first served, runs COMMAND, and gives
the lock back when that ends. Its exit code is COMMAND's: 128 and the signal's number if a
signal ended that.

If the lock is lost, because the store could not be reached for long, COMMAND gets SIGTERM,
and SIGKILL after --grace; the exit code is 3. Others may have the lock by then, so what
COMMAND writes elsewhere should carry the fence, which it finds in its environment:

  LOCK_NAME           the name of the lock
  LOCK_TERM           a number that grows with each holder
  LOCK_GUARD_KEY      the key, and the version of it, that the guard of each of
  LOCK_GUARD_VERSION  its writes must have (kv.Guard)

All that use one lock must say the same --ttl. With --no-wait the exit code is 1 if the
lock is held or waited for. On gossip there are no locks.`,
		Example: `  polykv --config polykv.yaml lock locks/backup -- ./backup.sh
  polykv --config polykv.yaml lock --no-wait locks/report -- make report`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 1 || len(args) < 2 {
				return usagef(`lock needs a name, "--" and a command, as in: polykv lock NAME -- COMMAND`)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkKey(args[0]); err != nil {
				return err
			}
			if flags.grace < 0 {
				return usagef("--grace %v: it must not be negative", flags.grace)
			}
			return a.steady(cmd.Context(), func(client kv.Client) error {
				return a.lock(cmd.Context(), client, flags, args[0], args[1:])
			})
		},
	}
	cmd.Flags().DurationVar(&flags.ttl, "ttl", 15*time.Second, "for how long a participant may be silent before others take it for dead")
	cmd.Flags().DurationVar(&flags.grace, "grace", 10*time.Second, "for how long COMMAND may go on after SIGTERM")
	cmd.Flags().BoolVar(&flags.noWait, "no-wait", false, "give up at once if the lock is held")
	return cmd
}

// lock runs a command under a lock.
func (a *app) lock(ctx context.Context, client kv.Client, flags lockFlags, name string, command []string) (err error) {
	l, err := coordination.NewLock(client, name, coordination.Options{TTL: flags.ttl, Logger: a.logger()})
	if err != nil {
		return usage(err)
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	take := l.Lock
	if flags.noWait {
		take = l.TryLock
	}
	held, err := take(ctx)
	switch {
	case errors.Is(err, coordination.ErrHeld):
		return negative("the lock %q is held", name)
	case err != nil:
		return err
	}
	return a.runHeld(ctx, held, flags.grace, name, command)
}

// runHeld runs a command as long as a lock is held, and gives it back.
func (a *app) runHeld(ctx context.Context, held *coordination.Held, grace time.Duration, name string, command []string) error {
	ran := a.runUnder(ctx, held, grace, name, command)
	if errors.Is(held.Err(), coordination.ErrLost) {
		return errors.Join(fmt.Errorf("%q: %w", name, held.Err()), ran)
	}
	giveBack, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	if err := held.Unlock(giveBack); err != nil && ran == nil {
		return err
	}
	return ran
}

// runUnder runs a command as long as a lock is held.
func (a *app) runUnder(ctx context.Context, held *coordination.Held, grace time.Duration, name string, command []string) error {
	ctx, cancel := held.Context(ctx)
	defer cancel()
	return a.runCommand(ctx, grace, command, lockEnv(held.Guard(), name, held.Term())...)
}

// runCommand runs a command until it or ctx ends.
func (a *app) runCommand(ctx context.Context, grace time.Duration, command []string, env ...string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = max(grace, time.Millisecond)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, given(a.stdout), a.stderr
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		code := exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			code = 128 + int(status.Signal()) // as shells have it
		}
		return &exitError{code, fmt.Errorf("%s: %w", command[0], err)}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command[0], err)
	}
	return nil
}

func lockEnv(guard kv.Guard, name string, term uint64) []string {
	return []string{
		"LOCK_NAME=" + name,
		"LOCK_TERM=" + strconv.FormatUint(term, 10),
		"LOCK_GUARD_KEY=" + guard.Key,
		"LOCK_GUARD_VERSION=" + strconv.FormatUint(uint64(guard.Version), 10),
	}
}
