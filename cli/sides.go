package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/wait"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// side is one of the two stores that a command works on.
type side struct {
	role   string // in the section multi
	word   string // of the flag that names a file instead
	file   string
	name   string
	config *factory.Config
}

// section says where the settings of the side's backend are.
func (s *side) section() string {
	if s.file != "" {
		return s.file + ": " + s.config.Backend
	}
	return "--multi." + s.role + "." + s.config.Backend
}

// twoStores are the stores of a command that works on two, with its flags.
type twoStores struct {
	app   *app
	sides [2]*side
	json  bool
	bar   *keyProgress

	async   bool // its output neither stops nor ends the command
	lenient bool // a store may be lost
	patient bool // it goes through all keys while nobody waits for it
}

// addStores adds the flags of two stores.
func (a *app) addStores(fs *pflag.FlagSet) *twoStores {
	s := &twoStores{app: a, sides: [2]*side{{role: "primary", word: "from"}, {role: "secondary", word: "to"}}}
	for _, side := range s.sides {
		fs.StringVar(&side.file, side.word, "", fmt.Sprintf("YAML `file` with a configuration of this one store, instead of multi.%s", side.role))
		fs.StringVar(&side.name, side.word+"-name", "", fmt.Sprintf("with --%s, the `name` that clients and operators know the store by; the default is its backend's", side.word))
	}
	fs.BoolVar(&s.json, "json", false, "write JSON to stdout, for programs")
	return s
}

// load reads the configurations and settles the names: the section multi of
// the clients' own configuration, or two files.
func (s *twoStores) load() error {
	from, to := s.sides[0], s.sides[1]
	if from.file == "" && to.file == "" {
		return s.loadMulti()
	}
	if s.app.configFile != "" {
		return usagef("--config and --from and --to exclude each other: give one file with two stores, or two with one each")
	}
	for _, side := range s.sides {
		if side.file == "" {
			return usagef("--%s is missing: give --from and --to, a file with the configuration of one store each", side.word)
		}
		side.config = s.app.drivers.NewConfig()
		if err := side.config.LoadFile(side.file); err != nil {
			return usagef("--%s: %w", side.word, err)
		}
		if err := side.config.Validate(); err != nil {
			return usagef("--%s: %s: %w", side.word, side.file, err)
		}
		if side.config.Backend == "multi" {
			return usagef(`--%s: %s: the backend is "multi"; it must be one store; see --config for two`, side.word, side.file)
		}
		side.name = cmp.Or(side.name, side.config.Backend)
	}
	if from.name == to.name {
		return usagef("both stores are named %q; give them --from-name and --to-name, the same that the clients know them by", from.name)
	}
	return usage(factory.Apart(from.config, to.config))
}

func (s *twoStores) loadMulti() error {
	if err := s.app.load(); err != nil {
		return err
	}
	c := s.app.config
	c.Backend = cmp.Or(c.Backend, "multi") // what else
	if c.Backend != "multi" {
		return usagef("the backend is %q; two stores are needed: the section multi of --config (or --multi.*), or --from and --to", c.Backend)
	}
	for i, config := range []*factory.Config{c.Multi.Primary, c.Multi.Secondary} {
		side := s.sides[i]
		if config.Backend == "" {
			return usagef("multi.%s: no backend chosen: give --config with a file that has two stores in its section multi, or --from and --to with a file each; "+
				"choose one of: %s", side.role, s.app.drivers)
		}
		if side.name != "" {
			return usagef("--%s-name is for --%s; in the section multi it is multi.%s.name", side.word, side.word, side.role)
		}
		side.config, side.name = config, cmp.Or(config.Name, config.Backend)
	}
	return usage(c.Validate())
}

// open opens the client of a side.
func (s *twoStores) open(ctx context.Context, side *side) (migrate.Backend, error) {
	if s.patient {
		side.config.Client.RetryTimeout = max(side.config.Client.RetryTimeout, patientRetry)
	}
	skipped := &migrate.Skipped{}
	client, err := factory.New(ctx, side.config, codec.Bytes{}, factory.Deps{Logger: s.app.logger(), Observer: skipped})
	if err != nil {
		return migrate.Backend{}, fmt.Errorf("%s: %w", side.name, err)
	}
	return migrate.Backend{Name: side.name, Client: client, Codec: codec.Bytes{}, Skipped: skipped}, nil
}

const (
	// patientRetry is how long a call of a command is retried that nobody waits
	// for: it goes on after a store was away for a while.
	patientRetry = time.Minute

	// busyPatience is how long a command waits for a server that has no
	// connection left: a Consul agent keeps those of clients that were idle
	// lately for a minute and a half.
	busyPatience = 2 * time.Minute
	busyEvery    = 2 * time.Second
)

// reach is app.reach that waits for a server that is busy.
func (s *twoStores) reach(ctx context.Context, side *side, client kv.Client) error {
	one := *s.app // the same, for one of the stores
	one.config, one.section = side.config, side.section()
	if member, ok := kv.As[memberlist.Noder](client); ok {
		one.node = member.Node()
	}
	deadline := time.Now().Add(busyPatience)
	for told := false; ; told = true {
		err := one.reach(ctx, client)
		if err == nil || errors.Is(err, kv.ErrPermission) {
			return one.needPeers()
		}
		if !isBusy(err) || !time.Now().Before(deadline) {
			return err
		}
		if !told {
			fmt.Fprintf(s.app.stderr, "waiting for up to %v: %v\n", busyPatience, err)
		}
		if wait.For(ctx, busyEvery) != nil {
			return err
		}
	}
}

// isBusy reports whether a Consul agent has refused a connection since it has
// too many from here (429).
func isBusy(err error) bool {
	return errors.Is(err, kv.ErrUnavailable) && strings.Contains(err.Error(), "429")
}

// with runs do on a migration between the two stores.
func (s *twoStores) with(ctx context.Context, command string, o migrate.Options, do func(m *migrate.Migration) error) (err error) {
	if err := s.load(); err != nil {
		return err
	}
	var backends [2]migrate.Backend
	for i, side := range s.sides {
		if backends[i], err = s.open(ctx, side); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, backends[i].Client.Close()) }()
	}
	m, err := migrate.New(backends[0], backends[1], o)
	if err != nil {
		return usage(err)
	}
	for i, side := range s.sides {
		if s.lenient {
			break
		}
		if err := s.reach(ctx, side, backends[i].Client); err != nil {
			if s.async {
				err = s.app.explainMigration(m.Unreached(ctx, command, err))
			}
			return err
		}
	}
	return s.app.explainMigration(do(m))
}

// explainMigration gives the errors of a migration their exit codes.
func (a *app) explainMigration(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(*migrate.WaitingError)):
		return &exitError{exitFailure, err}
	case errors.Is(err, migrate.ErrRefused), errors.Is(err, migrate.ErrAborted), errors.Is(err, migrate.ErrBehind),
		errors.As(err, new(*migrate.DifferencesError)), errors.As(err, new(*migrate.UndoneError)):
		return &exitError{exitNegative, err}
	case errors.As(err, new(*exitError)):
		return err
	default: // what is invalid or too large here is what the stores hold, not what the user gave
		return &exitError{exitFailure, err}
	}
}

// describe names the two stores, for the first line of what a command says.
func (s *twoStores) describe() string {
	text := ""
	for i, side := range s.sides {
		if i > 0 {
			text += " to "
		}
		text += side.name
		if address := side.config.Target().Address; address != "" {
			text += " at " + address
		}
		if side.config.Prefix != "" {
			text += " below " + side.config.Prefix
		}
	}
	return text
}

// storesExample is an example of the flags for a command.
func storesExample(cmd string) string {
	return "  polykv --config polykv.yaml " + cmd
}

// onTwoStores makes a command on two stores. opts are read once the flags are.
func (a *app) onTwoStores(s *twoStores, cmd *cobra.Command, opts *migrate.Options, do func(ctx context.Context, s *twoStores, m *migrate.Migration) error) *cobra.Command {
	cmd.Args = arguments(0, 0, "no arguments")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o := *opts
		terminal := isTerminal(a.stderr)
		if s.async {
			defer a.writeAsync()()
		}
		bar := newKeyProgress(a.stderr, terminal)
		s.bar = bar
		o.Progress = bar.show
		o.Changed = func(c migrate.Change) {
			if !s.json {
				bar.clear()
				a.printChange(c, o.DryRun)
			}
		}
		err := s.with(cmd.Context(), cmd.Name(), o, func(m *migrate.Migration) error {
			bar.count = func(prefix string) int {
				n, err := m.Count(cmd.Context(), prefix)
				if err != nil {
					return 0 // then there is no bar, and the command will meet the same
				}
				return n
			}
			return do(cmd.Context(), s, m)
		})
		bar.clear()
		return err
	}
	return cmd
}
