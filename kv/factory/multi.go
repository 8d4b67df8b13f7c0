package factory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/metrics"
	"github.com/polykv/polykv/kv/multi"
)

// multiBackend is the name by which Config.Backend chooses two stores.
const multiBackend = "multi"

// MultiConfig is the section of the backend "multi", see package multi: two
// stores, each with a whole configuration of its own, Prefix included.
type MultiConfig struct {
	// Primary and Secondary are the two stores; with Coordinated, which is
	// which is for their records to say. Their Name is what the stores are told
	// apart by; the default is their Backend. They have no section multi.
	Primary   *Config `yaml:"primary"`
	Secondary *Config `yaml:"secondary"`

	multi.Config `yaml:",inline"`

	// WantedFile is a YAML file that says which store is to be primary and
	// whether to mirror, see LoadWanted: read at the start and again every second. Not
	// with Coordinated.
	WantedFile string `yaml:"wanted_file"`
}

// LoadWanted reads what a file says that clients of two stores should do that are
// not coordinated: primary is the name of a store, mirror is true or false. The
// other fields of the file of "polykv migrate converge" may be there too, but
// stage, which is for coordinated clients.
func LoadWanted(path string) (multi.Update, error) {
	var w struct {
		Primary string
		Mirror  *bool
		Stage   string

		Wait          any
		ExpectClients any `yaml:"expect_clients"`
		MaxPause      any `yaml:"max_pause"`
		Allow         any
	}
	file, err := os.Open(path)
	if err != nil {
		return multi.Update{}, err
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	switch err := decoder.Decode(&w); {
	case err != nil:
		return multi.Update{}, fmt.Errorf("%s: %w", path, err)
	case w.Stage != "":
		return multi.Update{}, fmt.Errorf("%s: stage: it is for coordinated clients; others go by primary and mirror", path)
	case w.Primary == "":
		return multi.Update{}, fmt.Errorf("%s: primary is missing: the name of the store that is to be primary", path)
	}
	return multi.Update{Primary: w.Primary, Mirror: w.Mirror}, nil
}

// init makes the zero value one with defaults.
func (m *MultiConfig) init(d *Drivers) {
	fill(&m.Config, pointerTo(multi.DefaultConfig)())
	for _, side := range []**Config{&m.Primary, &m.Secondary} {
		if *side == nil {
			*side = d.newConfig(true)
		}
	}
}

// RegisterFlags implements Section.
func (m *MultiConfig) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	m.Primary.bind(fs, prefix+"primary.")
	m.Secondary.bind(fs, prefix+"secondary.")
	m.Config.RegisterFlags(fs, prefix)
	fs.StringVar(&m.WantedFile, prefix+"wanted-file", m.WantedFile, "YAML `file` that says which store is primary and whether to mirror, read again every second; not with coordinated; empty: neither changes")
}

// Validate implements Section.
func (m *MultiConfig) Validate() error {
	if err := cmp.Or(inField("primary", 0, m.Primary.Validate()), inField("secondary", 0, m.Secondary.Validate())); err != nil {
		return err
	}
	if name := m.Primary.name(); name == m.Secondary.name() {
		return &FieldError{Field: "secondary.name", Err: fmt.Errorf("both stores are named %q; give each a name of its own", name)}
	}
	if m.WantedFile != "" && m.Coordinated {
		return &FieldError{Field: "wanted_file", Err: errors.New("a coordinated client goes by the stores' records; give one of wanted_file and coordinated")}
	}
	return cmp.Or(inField("secondary", 0, Apart(m.Primary, m.Secondary)), m.Config.Validate())
}

// Apart makes sure that two stores are not one of which each copy is copied again,
// as far as their configurations tell: one of the prefixes begins with the other.
func Apart(a, b *Config) error {
	if nested := strings.HasPrefix(a.Prefix, b.Prefix) || strings.HasPrefix(b.Prefix, a.Prefix); nested && a.Prefix != b.Prefix &&
		a.Backend == b.Backend && reflect.DeepEqual(a.Section(a.Backend), b.Section(b.Backend)) {
		return &FieldError{Field: "prefix", Err: fmt.Errorf("both stores are one, and of their prefixes %q and %q one begins with the other; neither must", a.Prefix, b.Prefix)}
	}
	return nil
}

// name is what a store is told from another one by.
func (c *Config) name() string { return cmp.Or(c.Name, c.Backend) }

// target says where both stores are.
func (m *MultiConfig) target() Target {
	a, b := m.Primary.Target(), m.Secondary.Target()
	return Target{Address: strings.Trim(a.Address+", "+b.Address, ", "), DialTimeout: max(a.DialTimeout, b.DialTimeout)}
}

// open opens both stores and a client over them.
func (m *MultiConfig) open(ctx context.Context, cdc codec.Codec, deps Deps, measured *metrics.Metrics) (kv.Client, error) {
	var backends []multi.Backend
	closeAll := func(err error) error {
		for _, b := range backends {
			err = errors.Join(err, b.Client.Close())
		}
		return err
	}
	for _, side := range []struct {
		name   string
		config *Config
	}{{"primary", m.Primary}, {"secondary", m.Secondary}} {
		client, err := New(ctx, side.config, cdc, deps)
		if err != nil {
			if errors.As(err, new(*FieldError)) {
				return nil, closeAll(inField(multiBackend+"."+side.name, 0, err))
			}
			return nil, closeAll(fmt.Errorf("%s.%s.%w", multiBackend, side.name, err))
		}
		backend := multi.Backend{Name: side.config.name(), Client: client}
		if side.config.isGossip() {
			backend.Gossip, backend.Equal = true, memberlist.Equal(cdc)
		}
		backends = append(backends, backend)
	}
	options := []multi.Option{multi.WithCodec(cdc), multi.WithLogger(deps.Logger)}
	if measured != nil {
		options = append(options, multi.WithObserver(measured.MirrorObserver()))
	}
	if tracer, ok := deps.Observer.(kv.Tracer); ok {
		options = append(options, multi.WithTracer(tracer))
	}
	if m.WantedFile != "" {
		options = append(options, multi.WithWanted(func() (multi.Update, error) { return LoadWanted(m.WantedFile) }))
	}
	client, err := multi.New(m.Config, backends, options...)
	if err != nil {
		return nil, closeAll(&FieldError{Field: multiBackend, Err: err})
	}
	return client, nil
}
