package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv/multi/migrate"
	"github.com/polykv/polykv/kv/multi/migrate/fleetpage"
)

// statusFlags are those of "polykv migrate status".
type statusFlags struct {
	every time.Duration
	check bool
	serve string
}

func (a *app) statusCommand() *cobra.Command {
	var f statusFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show where a migration stands, and which clients were seen",
		Long: `Status shows both records, what comes next, the clients that were seen in the last
minute, whether each is ready for a cutover or why not, and how many keys wait to be
mirrored. Clients that are not coordinated can't be seen. With --every it goes on until
it is interrupted, and then tells who is gone by watching, without comparing clocks.

It shows what it can if one of the stores is lost. Exit codes: 0; 1 the configuration
contradicts the records; 3 a store can't be read. With --check it is also 1 if something is in
the way of a cutover, and 3 if no store is primary, so that writes wait.`,
		Example: storesExample("migrate status") + "\n" + storesExample("migrate status --every 5s"),
	}
	cmd.Flags().DurationVar(&f.every, "every", 0, "show it again after this time, until interrupted")
	cmd.Flags().BoolVar(&f.check, "check", false, "tell by the exit code whether writes wait, and whether anything is in the way of a cutover")
	cmd.Flags().StringVar(&f.serve, "serve", "", "serve it as a web page at this `address` (host:port), until interrupted; for those who operate, since it names hosts")
	s := a.addStores(cmd.Flags())
	s.lenient = true
	return a.onTwoStores(s, cmd, &migrate.Options{}, func(ctx context.Context, s *twoStores, m *migrate.Migration) error {
		if f.every < 0 {
			return usagef("--every %v: it must not be negative", f.every)
		}
		if f.serve != "" {
			return a.servePage(ctx, "--serve", f.serve, fleetpage.Handler(m))
		}
		return a.showStatus(ctx, s, m, f)
	})
}

func (a *app) showStatus(ctx context.Context, s *twoStores, m *migrate.Migration, f statusFlags) error {
	ctx, end := a.whileRead(ctx)
	defer end()
	for {
		status, err := m.Status(ctx)
		switch {
		case err != nil && f.every > 0:
			return followed(ctx, err)
		case err != nil:
			return err
		case s.json:
			err = writeJSON(a.stdout, status)
		default:
			a.printStatus(s, status)
		}
		if err != nil {
			return err
		}
		if f.every == 0 {
			return judge(status, f.check)
		}
		if err := wait.For(ctx, f.every); err != nil {
			return followed(ctx, err)
		}
		if !s.json {
			fmt.Fprintln(a.stdout)
		}
	}
}

// judge is what the exit code of status goes by.
func judge(st migrate.Status, check bool) error {
	for _, store := range []migrate.StoreStatus{st.Source, st.Target} {
		if store.Error != "" {
			return &exitError{exitFailure, fmt.Errorf("store %q can't be read: %s", store.Name, store.Error)}
		}
	}
	switch {
	case st.Problem != "":
		return &exitError{exitNegative, errors.New(st.Problem)}
	case !check:
		return nil
	case !st.Writable && st.Phase != migrate.None:
		return &exitError{exitFailure, fmt.Errorf("no store is primary, so writes wait: %s; %s", st.Now, st.Next)}
	case len(st.Blockers) > 0:
		texts := make([]string, len(st.Blockers))
		for i, b := range st.Blockers {
			texts[i] = b.String()
		}
		return negative("not ready for a cutover: %s", strings.Join(texts, "; "))
	}
	return nil
}
