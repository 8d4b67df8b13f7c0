package factory

import (
	"fmt"
	"reflect"
	"slices"
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
	ShareBytes        int           `yaml:"share_bytes"`
	CompareWatches    time.Duration `yaml:"compare_watches"`
	ScanPage          int           `yaml:"scan_page"` // entries
	ListPage          int           `yaml:"list_page"` // keys
}

// DefaultClientConfig returns the defaults, those of [kv.DefaultOptions] where
// they don't depend on the backend: an AttemptTimeout of 0 is that of the
// driver.
func DefaultClientConfig() (c ClientConfig) {
	o := kv.DefaultOptions()
	c.eachOption(&o, func(field, option reflect.Value) { field.Set(option) })
	c.AttemptTimeout = 0
	return c
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
	duration(&c.RetryTimeout, "retry-timeout", "how long a call is retried while the store can't be reached, before it fails as unavailable, or as indeterminate if a write may have arrived; 0: 10s")
	duration(&c.AttemptTimeout, "attempt-timeout", "how long one request may take before its answer counts as lost; 0: 3s, on Consul 8s")
	duration(&c.ContentionTimeout, "contention-timeout", "how long a compare-and-swap goes on against other writers of its key, the time in its callback left out, before it fails as a conflict; 0: 30s")
	duration(&c.SlowCallback, "slow-callback", "how long a compare-and-swap callback may hold up others of its key in this process, before they go on without it and it runs again; 0: 100ms")
	number(&c.MaxAttempts, "max-attempts", "how many `calls` of its callback a compare-and-swap makes at most while the callback fails and asks for a retry; 0: 10")
	duration(&c.MinBackoff, "min-backoff", "shortest pause before a request is tried again, from which pauses grow to max-backoff, in part at random; 0: 10ms")
	duration(&c.MaxBackoff, "max-backoff", "longest pause before a request is tried again, of calls and of watches; 0: 1s")
	number(&c.MaxValueSize, "max-value-size", "largest value in `bytes`, encoded, if lower than the store's limit; 0: the store's limit")
	number(&c.RememberEntries, "remember-entries", "how many `entries` are remembered so that a compare-and-swap needs no read before it; 0: 4096; negative: none")
	number(&c.RememberBytes, "remember-bytes", "limit in `bytes` of the values that are remembered so that a compare-and-swap needs no read before it; 0: 16777216")
	duration(&c.RememberFor, "remember-for", "how long an entry is remembered so that a compare-and-swap needs no read before it; 0: 5m")
	number(&c.ShareBytes, "share-bytes", "limit in `bytes` of the keys and values that are kept so that watches of the same keys share one session of the store; 0: 67108864; negative: none share")
	duration(&c.CompareWatches, "compare-watches", "how often the keys and versions of a watched range are read to find changes that the store did not tell of, after a time drawn from once to twice as long; 0: 10m; negative: never; not needed on Consul, nor in this process")
	number(&c.ScanPage, "scan-page", "how many `entries` are asked for at once when a prefix is read with its values; 0: 1000")
	number(&c.ListPage, "list-page", "how many `keys` are asked for at once when a prefix is listed; 0: as many as scan-page says")
}

// Validate reports the first field that has no meaning, as a [*FieldError].
func (c *ClientConfig) Validate() error {
	v := reflect.ValueOf(*c)
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		if v.Field(i).Int() < 0 && !slices.Contains([]string{"remember_entries", "share_bytes", "compare_watches"}, name) {
			return &FieldError{Field: name, Err: fmt.Errorf("%v must not be negative", v.Field(i))}
		}
	}
	if c.MinBackoff > 0 && c.MaxBackoff > 0 && c.MinBackoff > c.MaxBackoff {
		return &FieldError{Field: "min_backoff", Err: fmt.Errorf("%v is longer than max_backoff, %v", c.MinBackoff, c.MaxBackoff)}
	}
	return nil
}

// options translates c.
func (c *ClientConfig) options() (o kv.Options) {
	c.eachOption(&o, func(field, option reflect.Value) { option.Set(field) })
	return o
}

// eachOption calls do with each field of c and the one of o that has its name.
func (c *ClientConfig) eachOption(o *kv.Options, do func(field, option reflect.Value)) {
	fields, options := reflect.ValueOf(c).Elem(), reflect.ValueOf(o).Elem()
	for i := range fields.NumField() {
		do(fields.Field(i), options.FieldByName(fields.Type().Field(i).Name))
	}
}
