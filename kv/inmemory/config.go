package inmemory

import "github.com/polykv/polykv/kv/driver"

const (
	// DefaultMaxValueSize is the size limit of values, in bytes, unless one is
	// configured. It is Consul's, the lowest among the servers, so that what
	// fits on a laptop fits in production.
	DefaultMaxValueSize = 512 << 10

	// maxKeySize is the limit of package kv, in bytes.
	maxKeySize = 512

	// maxGuards is that of the servers: what works here works there.
	maxGuards = 8
)

// Config holds the settings of a Store. The zero value is ready to use.
type Config struct {
	// MaxValueSize limits the size of a value, in bytes; a bigger one is
	// refused with ErrTooLarge. 0 means DefaultMaxValueSize, a negative number
	// no limit.
	MaxValueSize int `yaml:"max_value_size"`
}

// Option changes one setting of a Config.
type Option func(*Config)

// WithMaxValueSize sets Config.MaxValueSize.
func WithMaxValueSize(bytes int) Option {
	return func(c *Config) { c.MaxValueSize = bytes }
}

// withDefaults spells the defaults out, so that two configurations that mean
// the same are equal.
func (c Config) withDefaults() Config {
	if c.MaxValueSize == 0 {
		c.MaxValueSize = DefaultMaxValueSize
	}
	c.MaxValueSize = max(c.MaxValueSize, -1)
	return c
}

func (c Config) limits() driver.Limits {
	value := max(c.MaxValueSize, 0)
	return driver.Limits{Key: maxKeySize, Value: value, GuardedValue: value, Guards: maxGuards}
}
