package bolt

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/bbolt"
)

// Config says which file is opened, and how.
type Config struct {
	// Path is that of the file, which is created if it does not exist. The
	// folder must exist.
	Path string `yaml:"path"`

	// Timeout is how long to wait for another process that has the file open.
	Timeout time.Duration `yaml:"timeout"`

	// NoSync leaves it to the operating system when writes reach the disk.
	// Writes are much faster then, and those of the last seconds are lost, or
	// the file is damaged, if the machine (not just the process) stops.
	NoSync bool `yaml:"no_sync"`

	// MaxValueSize limits a value, in bytes.
	MaxValueSize int `yaml:"max_value_size"`
}

// NewConfig returns the defaults: wait 1 s, sync, values up to 1 MiB.
func NewConfig() *Config {
	return &Config{Timeout: time.Second, MaxValueSize: 1 << 20}
}

// RegisterFlags implements factory.Section of package kv/factory.
func (c *Config) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	fs.StringVar(&c.Path, prefix+"path", c.Path, "the `file`, created if it does not exist; must not be empty")
	fs.DurationVar(&c.Timeout, prefix+"timeout", c.Timeout, "how long to wait for another process that has the file open; more than 0")
	fs.BoolVar(&c.NoSync, prefix+"no-sync", c.NoSync, "have writes not wait for the disk, so that the last ones may be lost, or the file damaged, if the machine stops")
	fs.IntVar(&c.MaxValueSize, prefix+"max-value-size", c.MaxValueSize, "largest value in `bytes`")
}

// Validate implements factory.Section of package kv/factory.
func (c *Config) Validate() error {
	const largest = bbolt.MaxValueSize - headerSize
	switch {
	case c.Path == "":
		return errors.New("path: name the file")
	case c.Timeout <= 0:
		return fmt.Errorf("timeout: %v: it must be more than 0", c.Timeout)
	case c.MaxValueSize <= 0 || c.MaxValueSize > largest:
		return fmt.Errorf("max_value_size: %d: it must be from 1 to %d bytes", c.MaxValueSize, largest)
	}
	return nil
}
