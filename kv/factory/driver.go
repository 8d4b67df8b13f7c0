package factory

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/memberlist"
)

// Section is the part of a configuration that belongs to one driver. It is a
// pointer to a struct whose fields have yaml tags in snake_case; its secrets
// are of a type that prints as <redacted>, such as kv/config's.
//
// A section may have the method of [Addressed] as well.
type Section interface {
	// RegisterFlags adds the section's flags to fs, each name beginning with
	// prefix, which is empty or ends in ".". The values the fields have at
	// that moment are the defaults. It may be called again, on another
	// FlagSet; it must not read values or keep fs.
	RegisterFlags(fs *pflag.FlagSet, prefix string)

	// Validate reports the first field that is wrong and what is allowed, by an
	// error whose text begins with the field's path below the section, as in
	// "tls.ca_file: there is no certificate in it", or by a [*FieldError]. It
	// contacts nobody. It is called only if the section's backend is the chosen
	// one.
	Validate() error
}

// Addressed is an optional interface of a Section, for messages and for
// commands that give up early.
type Addressed interface {
	Target() Target
}

// Target says what server a configuration leads to.
type Target struct {
	// Address is where the server is, for messages, without credentials;
	// several are separated by ", ". It is empty if the backend has no server.
	Address string

	// DialTimeout is how long to wait for a first answer before the server
	// counts as unreachable; 0 means that the backend has no opinion.
	DialTimeout time.Duration
}

// Env is what a driver is opened with, besides its section.
type Env struct {
	// Backend is the name that the driver was added under.
	Backend string

	// Options are the client's options. Logger is set; Observer is set if
	// anybody listens. A driver.Store needs no more than the Logger.
	Options kv.Options

	// Codec is the client's codec, for drivers that implement kv.Client.
	Codec codec.Codec

	// Codecs are those of views that will be made of the client, see Deps.
	Codecs []codec.Codec

	// Registerer takes metrics of the driver's own; it may be nil.
	Registerer prometheus.Registerer

	// Memberlist is the gossip node of the program, if it has one.
	Memberlist *memberlist.Node
}

// Driver is a backend to choose: its name, its section and how it is opened.
// [StoreDriver] and [ClientDriver] make one.
type Driver struct {
	// Name is what Config.Backend chooses the driver by, the key of its section
	// in YAML and, with a ".", the prefix of its flags: a lower-case letter,
	// then lower-case letters, digits, "_" and "-".
	Name string

	// Library is the module path of the library through which the driver
	// reaches its backend, for the output of "polykv version". It may be empty.
	Library string

	newSection func() Section
	open       func(ctx context.Context, s Section, env Env) (opened, error)

	// These are for drivers that have a field in Config: they find the section,
	// and do for it what Addressed does for others; target may be nil.
	field  func(*Config) Section
	target func(*Config) Target

	gossip bool // see multi.Backend
}

// opened is what a driver gives: one of the two.
type opened struct {
	store  driver.Store
	client kv.Client
}

// StoreDriver returns a Driver that opens a driver.Store, which is what nearly
// every driver does.
//
// newSection returns a section with its defaults, a new one on every call.
// open gets a section that passed its Validate. It must not contact a server
// (rule A1 of kv.Client) and returns one handle, which the client will close.
// Its error counts as one of the configuration only if it is a [*FieldError].
func StoreDriver[S Section](name string, newSection func() S,
	open func(ctx context.Context, section S, env Env) (driver.Store, error),
) Driver {
	return newDriver(name, newSection, open, func(store driver.Store) opened { return opened{store: store} })
}

// ClientDriver returns a Driver that implements kv.Client itself, as gossip
// does. See [StoreDriver]; open must honour env.Options and env.Codec.
func ClientDriver[S Section](name string, newSection func() S,
	open func(ctx context.Context, section S, env Env) (kv.Client, error),
) Driver {
	return newDriver(name, newSection, open, func(client kv.Client) opened { return opened{client: client} })
}

func newDriver[S Section, R any](name string, newSection func() S, open func(context.Context, S, Env) (R, error), as func(R) opened) Driver {
	return Driver{
		Name:       name,
		newSection: func() Section { return newSection() },
		open: func(ctx context.Context, s Section, env Env) (opened, error) {
			result, err := open(ctx, s.(S), env)
			return as(result), err
		},
	}
}

// check tells what keeps d from being added.
func (d Driver) check() error {
	if err := checkName(d.Name); err != nil {
		return err
	}
	if d.newSection == nil || d.open == nil {
		return fmt.Errorf("driver %q: make it with StoreDriver or ClientDriver", d.Name)
	}
	if t := reflect.TypeOf(d.newSection()); t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("driver %q: its section is a %v, not a pointer to a struct", d.Name, t)
	}
	return nil
}

func checkName(name string) error {
	if name == "" {
		return errors.New("a driver needs a name")
	}
	for i, r := range name {
		lower := r >= 'a' && r <= 'z'
		if !lower && (i == 0 || r != '_' && r != '-' && (r < '0' || r > '9')) {
			return fmt.Errorf(`driver %q: a name is a lower-case letter, then lower-case letters, digits, "_" and "-"`, name)
		}
	}
	switch name {
	case "backend", "prefix", "client", "multi":
		return fmt.Errorf("driver %q: the name is taken by another field of the configuration", name)
	}
	return nil
}
