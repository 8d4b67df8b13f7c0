package factory

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/memberlist"
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
}

// init makes the zero value one with defaults.
func (m *MultiConfig) init(d *Drivers) {
	fill(&m.Config, pointerTo(multi.DefaultConfig)())
	for _, side := range []**Config{&m.Primary, &m.Secondary} {
		if *side == nil {
			*side = d.newSide()
		}
	}
}

// newSide returns the configuration of one of two stores.
func (d *Drivers) newSide() *Config {
	c := &Config{drivers: d, side: true, other: map[string]Section{}}
	for _, driver := range d.list {
		if driver.field == nil {
			c.other[driver.Name] = driver.newSection()
		}
	}
	c.setDefaults()
	return c
}

// RegisterFlags implements Section.
func (m *MultiConfig) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	m.Primary.bind(fs, prefix+"primary.")
	m.Secondary.bind(fs, prefix+"secondary.")
	m.Config.RegisterFlags(fs, prefix)
}

// Validate implements Section.
func (m *MultiConfig) Validate() error {
	if err := inField("primary", 0, m.Primary.Validate()); err != nil {
		return err
	}
	if err := inField("secondary", 0, m.Secondary.Validate()); err != nil {
		return err
	}
	if name := m.Primary.name(); name == m.Secondary.name() {
		return &FieldError{Field: "secondary.name", Err: fmt.Errorf("both stores are named %q; give each a name of its own", name)}
	}
	return m.Config.Validate()
}

// name is what a store is told from another one by.
func (c *Config) name() string { return cmp.Or(c.Name, c.Backend) }

// target says where both stores are.
func (m *MultiConfig) target() Target {
	a, b := m.Primary.Target(), m.Secondary.Target()
	t := Target{Address: a.Address, DialTimeout: max(a.DialTimeout, b.DialTimeout)}
	if a.Address != "" && b.Address != "" {
		t.Address += ", "
	}
	t.Address += b.Address
	return t
}

// open opens both stores and a client over them.
func (m *MultiConfig) open(ctx context.Context, cdc codec.Codec, deps Deps, observer multi.Observer) (kv.Client, error) {
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
			return nil, closeAll(inField(multiBackend+"."+side.name, 0, err))
		}
		backend := multi.Backend{Name: side.config.name(), Client: client}
		if d, err := side.config.set().lookup(side.config.Backend); err == nil && d.gossip {
			backend.Gossip, backend.Equal = true, memberlist.Equal(cdc)
		}
		backends = append(backends, backend)
	}
	options := []multi.Option{multi.WithCodec(cdc), multi.WithObserver(observer)}
	if deps.Logger != nil {
		options = append(options, multi.WithLogger(deps.Logger))
	}
	client, err := multi.New(m.Config, backends, options...)
	if err != nil {
		return nil, closeAll(&FieldError{Field: multiBackend, Err: err})
	}
	return client, nil
}
