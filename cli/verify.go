package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/polykv/polykv/kv/multi/migrate"
)

func (a *app) verifyCommand() *cobra.Command {
	var prefix string
	var limit int
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare every key of two stores; exit code 1 if any differ",
		Long: `Verify compares every key of two stores and writes a line for each that differs,
with the reason, the size of both values and the beginning of their SHA-256, never
the values. It changes nothing. With --json each line is an object, the last one
the summary.

  missing    the store that counts has it, the other doesn't
  extra      only the other one has it
  different  the values differ
  unreadable one of the values can't be read

The store that counts is the one that is primary, the source if there is no migration.
A key that differs is read again for up to 1.3 s, since one that is being mirrored
differs for a moment. While clients write, no difference means that none was seen; a cutover
proves it, with writes held up.`,
		Example: storesExample("verify") + "\n" + storesExample("verify --json") + " | jq -r .key",
	}
	cmd.Flags().StringVar(&prefix, "keys", "", "only keys that begin with this `prefix`")
	cmd.Flags().IntVar(&limit, "limit", 0, "how many keys that differ are listed at most; all are counted; 0: all are listed")
	s := a.addStores(cmd.Flags())
	s.patient = true
	return a.onTwoStores(s, cmd, &migrate.Options{}, func(ctx context.Context, s *twoStores, m *migrate.Migration) error {
		if limit < 0 {
			return usagef("--limit %d: it must not be negative", limit)
		}
		listed := 0
		o := migrate.VerifyOptions{Prefix: prefix, Found: func(d migrate.Difference) error {
			if listed++; limit > 0 && listed > limit {
				return nil
			}
			if s.json {
				return writeJSON(a.stdout, d)
			}
			s.bar.clear()
			a.printDifference(d)
			return nil
		}}
		s.bar.prefix = prefix
		result, err := m.Verify(ctx, o)
		s.bar.clear()
		if err != nil {
			return err
		}
		if s.json {
			err = writeJSON(a.stdout, withError{Result: result})
		} else {
			if more := listed - limit; limit > 0 && more > 0 {
				fmt.Fprintf(a.stdout, "           and %s more\n", thousands(more))
			}
			fmt.Fprintf(a.stdout, "%s and %s: %s keys compared (%s bytes), %s differ%s\n", result.From, result.To,
				thousands(result.Keys), thousands(int(result.Bytes)), thousands(result.Different), moving(result.Moving))
			if result.Retired != "" {
				fmt.Fprintf(a.stdout, "store %s is retired: nothing is mirrored into it any more\n", result.Retired)
			}
		}
		if result.Different > 0 {
			err = errors.Join(negative("%s keys differ between %s and %s", thousands(result.Different), result.From, result.To), err)
		}
		return err
	})
}

// moving says how many keys were written all the while.
func moving(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %s were written and mirrored all the while", thousands(n))
}

// printDifference writes one line about a key, never its values.
func (a *app) printDifference(d migrate.Difference) {
	line := fmt.Sprintf("%-10s %s", d.Reason, d.Key)
	switch {
	case d.Error != "":
		line += "  " + d.Error
	case d.From != nil && d.To != nil:
		line += fmt.Sprintf("  %d bytes %s, %d bytes %s", d.From.Size, d.From.SHA256, d.To.Size, d.To.SHA256)
	case d.From != nil:
		line += fmt.Sprintf("  %d bytes %s", d.From.Size, d.From.SHA256)
	case d.To != nil:
		line += fmt.Sprintf("  %d bytes %s", d.To.Size, d.To.SHA256)
	}
	fmt.Fprintln(a.stdout, line)
}
