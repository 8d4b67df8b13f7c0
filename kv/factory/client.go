package factory

import (
	"fmt"
	"reflect"
	"time"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv"
)

// ClientConfig tunes the client, whichever the backend. The zero value of a
// field means its default; see [kv.Options], whose fields these are.
type ClientConfig struct {
	RetryTimeout      time.Duration `yaml:"retry_timeout"`
	AttemptTimeout    time.Duration `yaml:"attempt_timeout"`
	ContentionTimeout time.Duration `yaml:"contention_timeout"`
	SlowCallback      time.Duration `yaml:"slow_callback"`
	MaxAttempts       int           `yaml:"max_attempts"`
	MinBackoff        time.Duration `yaml:"min_backoff"`
	MaxBackoff        time.Duration `yaml:"max_backoff"`
	MaxValueSize      int           `yaml:"max_value_size"` // bytes
	RememberEntries   int           `yaml:"remember_entries"`
	RememberBytes     int           `yaml:"remember_bytes"`
	RememberFor       time.Duration `yaml:"remember_for"`
	ScanPage          int           `yaml:"scan_page"` // entries
}

// DefaultClientConfig returns the defaults, those of [kv.DefaultOptions] where
// they don't depend on the backend: an AttemptTimeout of 0 is that of the
// driver.
func DefaultClientConfig() ClientConfig {
	o := kv.DefaultOptions()
	return ClientConfig{
		RetryTimeout:      o.RetryTimeout,
		ContentionTimeout: o.ContentionTimeout,
		SlowCallback:      o.SlowCallback,
		MaxAttempts:       o.MaxAttempts,
		MinBackoff:        o.MinBackoff,
		MaxBackoff:        o.MaxBackoff,
		MaxValueSize:      o.MaxValueSize,
		RememberEntries:   o.RememberEntries,
		RememberBytes:     o.RememberBytes,
		RememberFor:       o.RememberFor,
		ScanPage:          o.ScanPage,
	}
}

// RegisterFlags adds the flags of these fields to fs, each name beginning with
// prefix.
func (c *ClientConfig) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	duration := func(field *time.Duration, name, usage string) {
		fs.DurationVar(field, prefix+name, *field, usage)
	}
	number := func(field *int, name, usage string) {
		fs.IntVar(field, prefix+name, *field, usage)
	}
	duration(&c.RetryTimeout, "retry-timeout", "how long a call is retried while the store can't be reached")
	duration(&c.AttemptTimeout, "attempt-timeout", "how long one request may take before its answer counts as lost; 0: 3s, on Consul 8s")
	duration(&c.ContentionTimeout, "contention-timeout", "how long a compare-and-swap goes on against other writers")
	duration(&c.SlowCallback, "slow-callback", "how long a compare-and-swap callback may hold up others of its key")
	number(&c.MaxAttempts, "max-attempts", "how often a compare-and-swap callback that asks for a retry is called")
	duration(&c.MinBackoff, "min-backoff", "shortest pause before a retry")
	duration(&c.MaxBackoff, "max-backoff", "longest pause before a retry")
	number(&c.MaxValueSize, "max-value-size", "largest value in `bytes` if lower than the store's limit; 0: the store's limit")
	number(&c.RememberEntries, "remember-entries", "entries remembered to save a read; negative: none")
	number(&c.RememberBytes, "remember-bytes", "limit in `bytes` of the values remembered")
	duration(&c.RememberFor, "remember-for", "how long an entry is remembered")
	number(&c.ScanPage, "scan-page", "entries asked for at once when a prefix is read")
}

// Validate reports the first field that has no meaning, as a [*FieldError].
func (c *ClientConfig) Validate() error {
	v := reflect.ValueOf(*c)
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		if v.Field(i).Int() < 0 && name != "remember_entries" {
			return &FieldError{Field: name, Err: fmt.Errorf("%v must not be negative", v.Field(i))}
		}
	}
	if c.MinBackoff > 0 && c.MaxBackoff > 0 && c.MinBackoff > c.MaxBackoff {
		return &FieldError{Field: "min_backoff", Err: fmt.Errorf("%v is longer than max_backoff, %v", c.MinBackoff, c.MaxBackoff)}
	}
	return nil
}

// options translates c.
func (c *ClientConfig) options() kv.Options {
	return kv.Options{
		RetryTimeout:      c.RetryTimeout,
		AttemptTimeout:    c.AttemptTimeout,
		ContentionTimeout: c.ContentionTimeout,
		SlowCallback:      c.SlowCallback,
		MaxAttempts:       c.MaxAttempts,
		MinBackoff:        c.MinBackoff,
		MaxBackoff:        c.MaxBackoff,
		MaxValueSize:      c.MaxValueSize,
		RememberEntries:   c.RememberEntries,
		RememberBytes:     c.RememberBytes,
		RememberFor:       c.RememberFor,
		ScanPage:          c.ScanPage,
	}
}
