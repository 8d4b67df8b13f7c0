package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv/multi/migrate"
)

// wanted is the file of "polykv migrate converge".
type wanted struct {
	Stage         migrate.Stage `yaml:"stage"`
	Wait          time.Duration `yaml:"wait"`
	ExpectClients int           `yaml:"expect_clients"`
	MaxPause      time.Duration `yaml:"max_pause"`
	Allow         []string      `yaml:"allow"`

	// Of a fleet that is not coordinated, instead of Stage.
	Primary string `yaml:"primary"`
	Mirror  *bool  `yaml:"mirror"`
}

// switched reports whether w is about a fleet that is not coordinated.
func (w wanted) switched() bool { return w.Stage == "" && w.Primary != "" }

// allowances are the words of wanted.Allow.
var allowances = map[string]func(o *migrate.Options){
	"keys":          func(o *migrate.Options) { o.AllowKeys = true },
	"differences":   func(o *migrate.Options) { o.AllowDifferences = true },
	"empty":         func(o *migrate.Options) { o.AllowEmpty = true },
	"no-clients":    func(o *migrate.Options) { o.AllowNoClients = true },
	"misconfigured": func(o *migrate.Options) { o.AllowMisconfigured = true },
	"unreachable":   func(o *migrate.Options) { o.AllowUnreachable = true },
}

// loadWanted reads the file strictly.
func loadWanted(path string, o *migrate.Options) (wanted, error) {
	w := wanted{MaxPause: migrate.DefaultMaxPause}
	file, err := os.Open(path)
	if err != nil {
		return w, usagef("--wanted: %w", err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&w); err != nil {
		return w, usagef("--wanted: %s: %w; the fields are stage, wait, expect_clients, max_pause and allow, or primary, mirror, wait and expect_clients", path, err)
	}
	if w.Stage != "" && (w.Primary != "" || w.Mirror != nil) {
		return w, usagef("--wanted: %s: stage is for coordinated clients, primary and mirror are for others: give one of them", path)
	}
	if err := w.Stage.Validate(); err != nil && !w.switched() {
		return w, usagef("--wanted: %s: stage: %w", path, err)
	}
	if w.Wait < 0 {
		return w, usagef("--wanted: %s: wait: %v must not be negative", path, w.Wait)
	}
	if w.ExpectClients < 0 {
		return w, usagef("--wanted: %s: expect_clients: %d must not be negative", path, w.ExpectClients)
	}
	o.ExpectClients, o.MaxPause = w.ExpectClients, w.MaxPause
	for _, name := range w.Allow {
		allow, known := allowances[name]
		if !known {
			names := slices.Sorted(maps.Keys(allowances))
			return w, usagef("--wanted: %s: allow: %q is not known; known are: %s", path, name, strings.Join(names, ", "))
		}
		allow(o)
	}
	return w, nil
}

const convergeHelp = `Converge brings the migration to the stage that a file says, from wherever it stands, and
finds nothing to do once it is there: for a Kubernetes Job, a cron entry or a pipeline.
It may be killed and run again at will. The file is YAML:

  stage: moved          # mirroring: the source is primary, the target its standby
                        # copied: and the target holds all that the source holds
                        # moved: the target is primary, the source its standby
                        # finished: the target is primary, the source retired
                        # given-up: the source is primary, the target retired
  wait: 30m             # how long to wait until clients and keys are ready; 0: not at all
  expect_clients: 6     # how many clients there are; 0: at least one
  max_pause: 10s        # how long writes wait at most
  allow: []             # what to go on in spite of: keys, differences, empty,
                        # no-clients, misconfigured, unreachable

It goes back too, as long as there is a way: from moved to mirroring by a roll-back.

Clients that are not coordinated (the simple switch, gossip) read such a file
themselves, again and again, by multi.wanted_file:

  primary: etcd         # the store that is to be primary
  mirror: true          # whether to mirror into the other one

Converge changes nothing then; it waits until all clients have followed, and says who has not.`

func (a *app) convergeCommand() *cobra.Command {
	var path string
	var waitUntilReady time.Duration
	var o migrate.Options
	cmd := &cobra.Command{
		Use:     "converge",
		Short:   "Do what a file says that is wanted, as often as you like",
		Long:    convergeHelp,
		Example: storesExample("migrate converge --wanted wanted.yaml"),
	}
	cmd.Flags().StringVar(&path, "wanted", "", "YAML `file` that says what is wanted")
	cmd.Flags().DurationVar(&waitUntilReady, "wait-until-ready", 0, "how long to wait until clients and keys are ready, instead of the file's wait")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "tell what would be done first, and do nothing")
	s := a.addStores(cmd.Flags())
	s.async = true
	var w wanted
	cmd = a.onTwoStores(s, cmd, &o, func(ctx context.Context, s *twoStores, m *migrate.Migration) error {
		results, err := m.Converge(ctx, w.Stage, migrate.ConvergeOptions{Wait: w.Wait, Waiting: func(reason error) {
			s.bar.clear()
			fmt.Fprintf(a.stderr, "waiting: %v\n", reason)
		}})
		s.bar.clear()
		if s.json {
			return errors.Join(err, writeJSON(a.stdout, withError{results, text(err)}))
		}
		if err != nil {
			return err
		}
		for _, r := range results {
			if r.Pause > 0 {
				fmt.Fprintf(a.stdout, "writes waited for %v\n", r.Pause.Round(time.Millisecond))
			}
		}
		if o.DryRun {
			fmt.Fprintln(a.stdout, "nothing was changed")
			return nil
		}
		fmt.Fprintf(a.stdout, "the stage %q is reached\n", w.Stage)
		return nil
	})
	stages := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if path == "" {
			return usagef("--wanted is missing: the file that says what is wanted")
		}
		if w, err = loadWanted(path, &o); err != nil {
			return err
		}
		if waitUntilReady > 0 {
			w.Wait = waitUntilReady
		}
		if w.switched() {
			return a.convergeFleet(cmd.Context(), s, w)
		}
		return stages(cmd, args)
	}
	return cmd
}

// convergeFleet waits until a fleet that is not coordinated has followed.
func (a *app) convergeFleet(ctx context.Context, s *twoStores, w wanted) (err error) {
	if err := s.load(); err != nil {
		return err
	}
	var stores []migrate.Backend
	known := false
	for i, side := range s.sides {
		known = known || side.name == w.Primary
		if side.config.Backend == "memberlist" && s.sides[1-i].config.Backend != "memberlist" {
			continue // the clients tell of themselves in the other one
		}
		backend, err := s.open(ctx, side)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, backend.Client.Close()) }()
		if err := s.reach(ctx, side, backend.Client); err != nil {
			return err
		}
		stores = append(stores, backend)
	}
	if !known {
		return usagef("--wanted: primary: there is no store %q; the stores are %q and %q", w.Primary, s.sides[0].name, s.sides[1].name)
	}
	fleet, err := migrate.NewFleet(stores...)
	if err != nil {
		return usage(err)
	}
	seen, err := fleet.Converge(ctx, migrate.Wanted{Primary: w.Primary, Mirror: w.Mirror}, w.ExpectClients, migrate.ConvergeOptions{
		Wait: w.Wait, Waiting: func(reason error) { fmt.Fprintf(a.stderr, "waiting: %v\n", reason) },
	})
	if s.json {
		return errors.Join(a.explainMigration(err), writeJSON(a.stdout, withError{seen, text(err)}))
	}
	if err != nil {
		return a.explainMigration(err)
	}
	fmt.Fprintf(a.stdout, "all %d clients use store %q\n", seen.Followed, w.Primary)
	return nil
}
