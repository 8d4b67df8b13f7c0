package factory

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/memberlist"
)

// Config says which backend a client uses and how. [NewConfig] and
// [Drivers.NewConfig] make one with the defaults. The zero value becomes what
// NewConfig makes when RegisterFlags or UnmarshalYAML is called on it, so that
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
	given   []givenFlag
}

// givenFlag is a flag that was set explicitly, with its text as given.
type givenFlag struct{ prefix, name, text string }

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
	if name == multiBackend && !c.side {
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
	if err := c.Client.Validate(); err != nil {
		return inField("client", 0, err)
	}
	return inSection(name, section, section.Validate())
}

// isMulti reports whether the backend is two stores.
func (c *Config) isMulti() bool { return c.Backend == multiBackend && !c.side }

// RegisterFlags adds a flag for every field of every driver to fs, each name
// beginning with prefix, which is empty or, like "kv.", ends in ".". The
// values c has at that moment are the defaults shown. Parsing fs fills c.
//
// What a flag was set to stays in force when YAML is read into c later, so
// files and flags may come in either order.
func (c *Config) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	c.init()
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.bind(own, prefix)
	own.VisitAll(func(f *pflag.Flag) {
		if f.DefValue == "0s" || f.DefValue == "[]" {
			f.DefValue = "" // pflag takes these for zero only in its own types, and would print them
		}
		f.Value = &explicit{Value: f.Value, given: func(text string) {
			c.given = append(c.given, givenFlag{prefix: prefix, name: f.Name, text: text})
		}}
		fs.AddFlag(f)
	})
}

// bind adds flags that write straight into c.
func (c *Config) bind(fs *pflag.FlagSet, prefix string) {
	set := c.set()
	if c.side {
		fs.StringVar(&c.Backend, prefix+"backend", c.Backend, fmt.Sprintf("the `store` to use: %s", set))
		fs.StringVar(&c.Name, prefix+"name", c.Name, "what the store is told from the other one by; empty: its backend")
	} else {
		fs.StringVar(&c.Backend, prefix+"backend", c.Backend, fmt.Sprintf("the `store` to use: %s; or multi, for two of them", set))
		defer c.Multi.RegisterFlags(fs, prefix+multiBackend+".")
	}
	fs.StringVar(&c.Prefix, prefix+"prefix", c.Prefix, `put before every key; empty or ending in "/"`)
	c.Client.RegisterFlags(fs, prefix+"client.")
	for _, d := range set.list {
		c.section(d).RegisterFlags(fs, prefix+d.Name+".")
	}
}

// explicit is a flag's value that tells when it is set.
type explicit struct {
	pflag.Value
	given func(text string)
}

// Set implements pflag.Value.
func (e *explicit) Set(text string) error {
	if err := e.Value.Set(text); err != nil {
		return err
	}
	e.given(text)
	return nil
}

// applyFlags sets again what flags set, over what YAML set since. It uses new
// flags on the same fields, because a list's flag replaces its default on the
// first Set only.
func (c *Config) applyFlags() error {
	sets := map[string]*pflag.FlagSet{}
	for _, g := range c.given {
		fs := sets[g.prefix]
		if fs == nil {
			fs = pflag.NewFlagSet("", pflag.ContinueOnError)
			c.bind(fs, g.prefix)
			sets[g.prefix] = fs
		}
		if err := fs.Set(g.name, g.text); err != nil {
			return err
		}
	}
	return nil
}

// LoadFile reads the YAML file at path into c: strictly, see the package
// documentation. Fields that it doesn't mention keep their values, and so do
// those that were set by flags. Errors begin with the path; if one is
// returned, c may be half filled.
func (c *Config) LoadFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := c.Load(file); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Load is LoadFile of a reader: exactly one YAML document, which may be empty.
func (c *Config) Load(r io.Reader) error {
	decoder := yaml.NewDecoder(r)
	var node yaml.Node
	err := decoder.Decode(&node)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return errors.New("more than one YAML document; there must be one")
	}
	return c.UnmarshalYAML(&node)
}

// UnmarshalYAML implements yaml.Unmarshaler of go.yaml.in/yaml/v3, strictly and
// under the rules of LoadFile, so that a Config can be a field of a program's
// own configuration.
func (c *Config) UnmarshalYAML(node *yaml.Node) error {
	c.init()
	fields := fieldsOf(c.entries())
	if err := fields.decode(node, ""); err != nil {
		return err
	}
	return c.applyFlags()
}

// entries lists what c holds, by the names of YAML, in the order in which it
// is printed.
func (c *Config) entries() []entry {
	all := []entry{{"backend", &c.Backend}, {"prefix", &c.Prefix}, {"client", &c.Client}}
	if c.side {
		all = append(all, entry{"name", &c.Name})
	}
	for _, d := range c.set().list {
		all = append(all, entry{d.Name, c.section(d)})
	}
	if !c.side {
		all = append(all, entry{multiBackend, &c.Multi})
	}
	return all
}

// entry is a field of Config: its name in YAML and a pointer to its value.
type entry struct {
	name  string
	value any
}
