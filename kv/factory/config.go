package factory

import (
	"errors"
	"fmt"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/multi"
)

// Config says which backend a client uses and how. [NewConfig] and
// [Drivers.NewConfig] make one with the defaults. The zero value becomes what
// NewConfig makes when it is filled by flags, variables, YAML or JSON, so that
// it can be a plain field of a program's own configuration; sections that code
// has filled by then are left as they are.
//
// It is not safe for concurrent use while it is being filled, and must not be
// copied after RegisterFlags.
type Config struct {
	// Backend is the name of the driver to use, or "multi" for two stores. It
	// has no default.
	Backend string `yaml:"backend"`

	// Name is what one of the two stores of Multi is told from the other one
	// by, in commands and in the stores' records. Elsewhere it must be empty.
	Name string `yaml:"name"`

	// Prefix is put before every key, see [kv.Prefix]. It is empty or ends
	// in "/".
	Prefix string `yaml:"prefix"`

	// RecordCheck says what a client of one store does about a record that says
	// that a migration has left the store, see [multi.CheckRecord]. It has no
	// effect on the two stores of Multi.
	RecordCheck multi.RecordCheck `yaml:"record_check"`

	// Require refuses a store that is weaker than the program needs, before
	// anything is opened: "linearizable" one that is spread by gossip, or has
	// a side that is, see [kv.Linearizable]. It is empty by default: every
	// store will do. A program that needs it sets it in code. The sides of
	// Multi have none of their own.
	Require string `yaml:"require"`

	// Client tunes the client, whichever the backend.
	Client ClientConfig `yaml:"client"`

	// InMemory is the section of the backend "inmemory".
	InMemory InMemoryConfig `yaml:"inmemory"`

	// Consul is the section of the backend "consul".
	Consul consul.Config `yaml:"consul"`

	// Etcd is the section of the backend "etcd".
	Etcd etcd.Config `yaml:"etcd"`

	// Memberlist is the section of the backend "memberlist". It must be valid,
	// but is of no effect, where Deps.Memberlist is set.
	Memberlist memberlist.Config `yaml:"memberlist"`

	// Multi is the section of the backend "multi".
	Multi MultiConfig `yaml:"multi"`

	side    bool               // it is one of the two stores of a Multi
	drivers *Drivers           // nil: those of Builtin
	other   map[string]Section // the sections of drivers without a field here
	env     []givenFlag        // what environment variables set
	given   []givenFlag        // what flags set
}

// NewConfig returns a configuration that chooses among polykv's own drivers,
// with the defaults of each.
func NewConfig() *Config { return Builtin().NewConfig() }

// set returns the drivers that c chooses among.
func (c *Config) set() Drivers {
	if c.drivers == nil {
		return Builtin()
	}
	return *c.drivers
}

// init makes a zero Config one with defaults.
func (c *Config) init() {
	if c.drivers == nil {
		builtin := Builtin()
		c.drivers = &builtin
		c.setDefaults()
	}
}

// section returns the section of a driver of c.set().
func (c *Config) section(d Driver) Section {
	if d.field != nil {
		return d.field(c)
	}
	return c.other[d.Name]
}

// Section returns the section of the driver with that name, a pointer to be
// asserted to the driver's own type and filled; nil if there is no such driver.
// Polykv's own drivers have fields in Config as well.
func (c *Config) Section(name string) Section {
	if name == multiBackend && c.hasMulti() {
		return &c.Multi
	}
	d, err := c.set().lookup(name)
	if err != nil {
		return nil
	}
	return c.section(d)
}

// Target says what server the chosen backend leads to; the zero Target if the
// backend has none or isn't known.
func (c *Config) Target() Target {
	if c.isMulti() {
		return c.Multi.target()
	}
	d, err := c.set().lookup(c.Backend)
	if err != nil {
		return Target{}
	}
	if d.target != nil {
		return d.target(c)
	}
	if a, ok := c.section(d).(Addressed); ok {
		return a.Target()
	}
	return Target{}
}

// Validate reports the first field that is wrong, as a [*FieldError] with its
// path and what is allowed. Only the section of the chosen backend is looked
// at. It contacts nobody.
func (c *Config) Validate() error {
	var name string
	var section Section
	if c.isMulti() {
		c.init()
		name, section = multiBackend, &c.Multi
	} else {
		d, err := c.set().lookup(c.Backend)
		if err != nil {
			return inField("backend", 0, err)
		}
		name, section = d.Name, c.section(d)
	}
	if c.Name != "" && !c.side {
		return &FieldError{Field: "name", Err: errors.New("only the stores of the section multi have names")}
	}
	if err := kv.CheckNamespace(c.Prefix); err != nil {
		return inField("prefix", 0, err)
	}
	if err := c.RecordCheck.Validate(); err != nil && c.RecordCheck != "" {
		return &FieldError{Field: "record_check", Err: err}
	}
	if err := c.checkRequire(); err != nil {
		return &FieldError{Field: "require", Err: err}
	}
	if err := c.Client.Validate(); err != nil {
		return inField("client", 0, err)
	}
	return inSection(name, section, section.Validate())
}

// requireLinearizable is the only value of Config.Require but none.
const requireLinearizable = "linearizable"

// checkRequire refuses a store that is known to be weaker than required.
func (c *Config) checkRequire() error {
	switch {
	case c.Require == "":
		return nil
	case c.side:
		return fmt.Errorf("%q: it is required of multi as a whole, not of one of its stores", c.Require)
	case c.Require != requireLinearizable:
		return fmt.Errorf("%q is nothing that can be required; it must be empty or %q", c.Require, requireLinearizable)
	}
	stores := []*Config{c}
	if c.isMulti() {
		stores = []*Config{c.Multi.Primary, c.Multi.Secondary}
	}
	for _, store := range stores {
		if store.isGossip() {
			return c.tooWeak(store.Backend)
		}
	}
	return nil
}

// isGossip reports whether the backend is known to be spread by gossip.
func (c *Config) isGossip() bool {
	d, err := c.set().lookup(c.Backend)
	return err == nil && d.gossip
}

func (c *Config) tooWeak(backend string) error {
	return fmt.Errorf("the backend %q is not %s: its values merge, or the later write stays", backend, c.Require)
}

// hasMulti reports whether the backend may be two stores.
func (c *Config) hasMulti() bool { return !c.side && !c.set().single }

// isMulti reports whether the backend is two stores.
func (c *Config) isMulti() bool { return c.Backend == multiBackend && c.hasMulti() }

// entries lists what c holds, by the names of YAML, in the order in which it
// is printed.
func (c *Config) entries() []entry {
	all := []entry{{"backend", &c.Backend}, {"prefix", &c.Prefix}, {"client", &c.Client}}
	if c.side {
		all = append(all, entry{"name", &c.Name})
	} else {
		all = append(all, entry{"record_check", (*string)(&c.RecordCheck)})
		all = append(all, entry{"require", &c.Require})
	}
	for _, d := range c.set().list {
		all = append(all, entry{d.Name, c.section(d)})
	}
	if c.hasMulti() {
		all = append(all, entry{multiBackend, &c.Multi})
	}
	return all
}

// entry is a field of Config: its name in YAML and a pointer to its value.
type entry struct {
	name  string
	value any
}
