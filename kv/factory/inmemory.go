package factory

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
)

// InMemoryConfig is the section of the backend "inmemory", see package
// inmemory.
type InMemoryConfig struct {
	// Name is that of the store. Clients of one process that use the same name
	// share the data, which is gone when the last of them is closed.
	Name string `yaml:"name"`

	// MaxValueSize limits a value, in bytes; 0 means
	// inmemory.DefaultMaxValueSize, a negative number no limit. It must be the
	// same for all who share a store.
	MaxValueSize int `yaml:"max_value_size"`
}

// DefaultInMemoryConfig returns the defaults.
func DefaultInMemoryConfig() InMemoryConfig {
	return InMemoryConfig{MaxValueSize: inmemory.DefaultMaxValueSize}
}

// RegisterFlags implements Section.
func (c *InMemoryConfig) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	fs.StringVar(&c.Name, prefix+"name", c.Name, "name of the store, whose data the clients in this process share that use the same name, until the last of them is closed; empty is a name like others")
	fs.IntVar(&c.MaxValueSize, prefix+"max-value-size", c.MaxValueSize, "largest value in `bytes`, encoded, alike for all who share the store; 0: 524288; negative: no limit")
}

// Validate implements Section: every value has a meaning.
func (c *InMemoryConfig) Validate() error { return nil }

func openInMemory(_ context.Context, c *InMemoryConfig, _ Env) (driver.Store, error) {
	return inmemory.OpenNamed(c.Name, inmemory.Config{MaxValueSize: c.MaxValueSize})
}
