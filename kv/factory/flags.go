package factory

import (
	"flag"
	"fmt"

	"github.com/spf13/pflag"
)

// givenFlag is a flag that was set explicitly, with its text as given.
type givenFlag struct{ prefix, name, text string }

// RegisterFlags adds a flag for every field of every driver to fs, each name
// beginning with prefix, which is empty or, like "kv.", ends in ".". The
// values c has at that moment are the defaults shown. Parsing fs fills c.
//
// What a flag was set to stays in force when YAML or variables are read into c
// later, so files, variables and flags may come in any order.
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

// RegisterFlagsStd is RegisterFlags for the flag package of the standard
// library, which takes one dash or two before the names.
func (c *Config) RegisterFlagsStd(fs *flag.FlagSet, prefix string) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.RegisterFlags(own, prefix)
	own.VisitAll(func(f *pflag.Flag) {
		fs.Var(f.Value, f.Name, f.Usage)
		switch added := fs.Lookup(f.Name); f.DefValue {
		case "", "0", "false":
			added.DefValue = "" // that package can't tell that they are zero, and would print them
		}
	})
}

// bind adds flags that write straight into c.
func (c *Config) bind(fs *pflag.FlagSet, prefix string) {
	set := c.set()
	if c.side {
		fs.StringVar(&c.Name, prefix+"name", c.Name, "what this one of the two stores is told from the other one by; empty: the name of its backend")
	}
	usage := fmt.Sprintf("the `store` to use, never empty: %s", set)
	if c.hasMulti() {
		usage += "; or multi, for two of them"
		defer c.Multi.RegisterFlags(fs, prefix+multiBackend+".")
	}
	fs.StringVar(&c.Backend, prefix+"backend", c.Backend, usage)
	if !c.side {
		fs.StringVar((*string)(&c.RecordCheck), prefix+"record-check", string(c.RecordCheck),
			"what to do about writes to a store that a migration has left: refuse, warn or ignore")
		fs.StringVar(&c.Require, prefix+"require", c.Require, `what the store must be: linearizable, which refuses gossip; empty: any store`)
	}
	fs.StringVar(&c.Prefix, prefix+"prefix", c.Prefix, `what is put before every key, so that the client sees only keys that begin with it; ends in "/"; empty: nothing`)
	c.Client.RegisterFlags(fs, prefix+"client.")
	for _, d := range set.list {
		c.section(d).RegisterFlags(fs, prefix+d.Name+".")
	}
}

// explicit is a flag's value that tells when it is set. Its methods work on the
// zero value, because the standard library's flag package makes one.
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

// String implements pflag.Value.
func (e *explicit) String() string {
	if e.Value == nil {
		return ""
	}
	return e.Value.String()
}

// IsBoolFlag tells the flag package that the flag may go without a value.
func (e *explicit) IsBoolFlag() bool {
	b, ok := e.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// applyGiven sets again what variables and flags set, over what YAML set since.
// It uses new flags on the same fields, because a list's flag replaces its
// default on the first Set only.
func (c *Config) applyGiven() error {
	for _, given := range [][]givenFlag{c.env, c.given} {
		sets := map[string]*pflag.FlagSet{}
		for _, g := range given {
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
	}
	return nil
}
