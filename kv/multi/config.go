package multi

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
)

// Config tunes a client of two stores. Start from [DefaultConfig].
type Config struct {
	// Primary is the name of the backend that is primary at first; empty: the
	// first one. With Coordinated the stores' records say which it is.
	Primary string `yaml:"-"`

	// Mirror keeps the secondary equal to the primary. With Coordinated the
	// stores' records say when to mirror, and false keeps this client from it:
	// then only the others' repairs copy what it writes.
	Mirror bool `yaml:"mirror"`

	// MirrorTimeout is how long a write waits for its mirror.
	MirrorTimeout time.Duration `yaml:"mirror_timeout"`

	// MirrorAsync keeps writes from waiting for their mirrors at all.
	MirrorAsync bool `yaml:"mirror_async"`

	// MirrorWorkers is how many keys are mirrored at once. Each takes a
	// connection of stores that have one for each request, and keeps it while
	// the store hangs: all clients behind one address together must stay below
	// what a Consul agent takes (200).
	MirrorWorkers int `yaml:"mirror_workers"`

	// DrainTimeout is how long Close waits for what is left to mirror, unless
	// the secondary is known not to answer.
	DrainTimeout time.Duration `yaml:"drain_timeout"`

	// MirrorMinBackoff and MirrorMaxBackoff bound the pause before what could
	// not be mirrored is tried again.
	MirrorMinBackoff time.Duration `yaml:"mirror_min_backoff"`
	MirrorMaxBackoff time.Duration `yaml:"mirror_max_backoff"`

	// RepairInterval is the time between comparisons of the whole stores, each
	// of which copies what differs, give or take a half; 0: none.
	RepairInterval time.Duration `yaml:"repair_interval"`

	// Coordinated makes the client obey, and guard every call by, the records
	// of the stores. See the package documentation.
	Coordinated bool `yaml:"coordinated"`

	// FenceTimeout is how long a call waits for a store to be primary, while
	// a cutover is under way say, before it fails with kv.ErrFenced.
	FenceTimeout time.Duration `yaml:"fence_timeout"`

	// ClientName is what "polykv migrate status" calls this client, beside its
	// host and process; empty: nothing.
	ClientName string `yaml:"client_name"`

	// RefreshInterval is the time between reads of the records that nothing
	// else gave rise to. Changes are noticed at once, by a watch.
	RefreshInterval time.Duration `yaml:"refresh_interval"`
}

// DefaultConfig returns the defaults: mirroring that writes wait for, without
// coordination.
func DefaultConfig() Config {
	return Config{
		Mirror:           true,
		MirrorTimeout:    time.Second,
		MirrorWorkers:    16,
		DrainTimeout:     time.Second,
		MirrorMinBackoff: 100 * time.Millisecond,
		MirrorMaxBackoff: 30 * time.Second,
		RepairInterval:   10 * time.Minute,
		FenceTimeout:     30 * time.Second,
		RefreshInterval:  10 * time.Second,
	}
}

// RegisterFlags adds a flag for every field but Primary to fs, named prefix
// plus the field's name in YAML with dashes. The defaults are c's present
// values.
func (c *Config) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	fs.BoolVar(&c.Mirror, prefix+"mirror", c.Mirror, "keep the secondary store equal to the primary one")
	fs.DurationVar(&c.MirrorTimeout, prefix+"mirror-timeout", c.MirrorTimeout, "how long a write waits for its copy in the secondary store, which is made later if it takes longer; more than 0")
	fs.BoolVar(&c.MirrorAsync, prefix+"mirror-async", c.MirrorAsync, "have no write wait for its copy in the secondary store")
	fs.IntVar(&c.MirrorWorkers, prefix+"mirror-workers", c.MirrorWorkers, "how many `keys` are copied to the secondary store at once, each over a connection; more than 0")
	fs.DurationVar(&c.DrainTimeout, prefix+"drain-timeout", c.DrainTimeout, "how long closing waits for copies to the secondary store that are not made yet; 0: not at all")
	fs.DurationVar(&c.MirrorMinBackoff, prefix+"mirror-min-backoff", c.MirrorMinBackoff, "shortest pause before a copy to the secondary store that failed is tried again; more than 0, at most mirror-max-backoff")
	fs.DurationVar(&c.MirrorMaxBackoff, prefix+"mirror-max-backoff", c.MirrorMaxBackoff, "longest pause before a copy to the secondary store that failed is tried again; more than 0")
	fs.DurationVar(&c.RepairInterval, prefix+"repair-interval", c.RepairInterval, "time between comparisons of the whole stores, give or take a half, which copy what differs; 0: none")
	fs.BoolVar(&c.Coordinated, prefix+"coordinated", c.Coordinated, "obey the records that \"polykv migrate\" writes into the stores, and guard every call by them")
	fs.DurationVar(&c.FenceTimeout, prefix+"fence-timeout", c.FenceTimeout, "how long a call waits, during a cutover say, for a store to be primary before it fails as fenced; more than 0")
	fs.StringVar(&c.ClientName, prefix+"client-name", c.ClientName, "what \"polykv migrate status\" calls this client, beside its host and process; empty: nothing")
	fs.DurationVar(&c.RefreshInterval, prefix+"refresh-interval", c.RefreshInterval, "time between reads of the stores' records, whose changes a watch tells at once otherwise; more than 0")
}

// Validate reports the first wrong field, by its name in YAML, and what is
// allowed.
func (c Config) Validate() error {
	for _, d := range []struct {
		name     string
		value    time.Duration
		required bool
	}{
		{name: "mirror_timeout", value: c.MirrorTimeout, required: c.Mirror && !c.MirrorAsync},
		{name: "drain_timeout", value: c.DrainTimeout},
		{name: "mirror_min_backoff", value: c.MirrorMinBackoff, required: true},
		{name: "mirror_max_backoff", value: c.MirrorMaxBackoff, required: true},
		{name: "repair_interval", value: c.RepairInterval},
		{name: "fence_timeout", value: c.FenceTimeout, required: c.Coordinated},
		{name: "refresh_interval", value: c.RefreshInterval, required: c.Coordinated},
	} {
		switch {
		case d.value < 0:
			return fmt.Errorf("%s: %v is not allowed; it must not be negative", d.name, d.value)
		case d.value == 0 && d.required:
			return fmt.Errorf("%s: 0 is not allowed; it must be a duration like 1s", d.name)
		}
	}
	switch {
	case c.MirrorWorkers <= 0:
		return fmt.Errorf("mirror_workers: %d is not allowed; it must be more than 0", c.MirrorWorkers)
	case c.MirrorMinBackoff > c.MirrorMaxBackoff:
		return fmt.Errorf("mirror_min_backoff: %v is longer than mirror_max_backoff, %v", c.MirrorMinBackoff, c.MirrorMaxBackoff)
	}
	return nil
}

// index finds the configured primary among the backends.
func (c Config) index(backends []Backend) (int, error) {
	if len(backends) != 2 {
		return 0, fmt.Errorf("there must be two backends, not %d", len(backends))
	}
	for _, b := range backends {
		switch {
		case b.Name == "":
			return 0, errors.New("a backend has no name")
		case b.Client == nil:
			return 0, fmt.Errorf("backend %q has no client", b.Name)
		}
	}
	if backends[0].Name == backends[1].Name {
		return 0, fmt.Errorf("both backends are named %q; they must have names of their own", backends[0].Name)
	}
	switch c.Primary {
	case "", backends[0].Name:
		return 0, nil
	case backends[1].Name:
		return 1, nil
	}
	return 0, fmt.Errorf("primary: there is no backend %q; the backends are %q and %q", c.Primary, backends[0].Name, backends[1].Name)
}
