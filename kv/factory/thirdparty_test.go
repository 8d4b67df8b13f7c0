package factory_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/inmemory"
)

// boltConfig is the section of a driver that this package has never heard of.
type boltConfig struct {
	Path    string            `yaml:"path"`
	Wait    time.Duration     `yaml:"wait"`
	Sync    bool              `yaml:"sync"`
	Pages   int               `yaml:"pages"`
	Key     config.Secret     `yaml:"key"`
	Buckets []bucket          `yaml:"buckets"`
	Hosts   []string          `yaml:"hosts"`
	Labels  map[string]bucket `yaml:"labels"`
	TLS     *boltTLS          `yaml:"tls"`
	Tree    *tree             `yaml:"tree"`
	Self    selfDecoded       `yaml:"self"`
	Fill    float64           `yaml:"fill"`
	Mask    mask              `yaml:"mask"`
	Common  `yaml:",inline"`
	Ignored string `yaml:"-"`
}

type bucket struct {
	Name string  `yaml:"name"`
	Fill float64 `yaml:"fill"`
}

// mask is a flag of a type of its own.
type mask struct{ text string }

func (m *mask) Set(string) error { return errors.New("it must be a mask") }
func (m *mask) String() string   { return m.text }
func (m *mask) Type() string     { return "mask" }

// selfDecoded decodes itself.
type selfDecoded struct{ text string }

func (s *selfDecoded) UnmarshalYAML(node *yaml.Node) error {
	var fields struct {
		At []any `yaml:"at"`
	}
	err := node.Decode(&fields)
	s.text = fmt.Sprint(fields.At)
	return err
}

type boltTLS struct {
	CA string `yaml:"ca"`
}

type tree struct {
	Left  *tree `yaml:"left"`
	Right *tree `yaml:"right"`
}

// Common is inlined in boltConfig.
type Common struct {
	Region string
}

func newBoltConfig() *boltConfig { return &boltConfig{Wait: time.Second, Hosts: []string{"one"}} }

func (c *boltConfig) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	fs.StringVar(&c.Path, prefix+"path", c.Path, "file of the database")
	fs.DurationVar(&c.Wait, prefix+"wait", c.Wait, "how long to wait for the lock")
	fs.BoolVar(&c.Sync, prefix+"sync", c.Sync, "write through")
	fs.StringSliceVar(&c.Hosts, prefix+"hosts", c.Hosts, "names")
	fs.Float64Var(&c.Fill, prefix+"fill", c.Fill, "how full pages may be")
	fs.Var(&c.Mask, prefix+"mask", "the mask")
	fs.Var(&c.Key, prefix+"key", "the secret")
}

func (c *boltConfig) Validate() error {
	if c.Path == "" {
		return &factory.FieldError{Field: "path", Err: errors.New("a file name is needed")}
	}
	if c.Pages < 0 {
		return errors.New("odd: this is no field")
	}
	if c.Wait < 0 {
		return errors.New("wait: must not be negative")
	}
	return nil
}

func (c *boltConfig) Target() factory.Target {
	return factory.Target{Address: c.Path, DialTimeout: c.Wait}
}

var boltData = inmemory.NewStore()

func openBolt(_ context.Context, c *boltConfig, env factory.Env) (driver.Store, error) {
	if c.Path == "/missing" {
		return nil, errors.New("path: no such file")
	}
	env.Options.Logger.Debug("opened", "backend", env.Backend)
	return boltData.Open(), nil
}

func boltDriver() factory.Driver { return factory.StoreDriver("bolt", newBoltConfig, openBolt) }

// selfConfig is the section of a driver that implements kv.Client itself.
type selfConfig struct{ Flat bool }

func (*selfConfig) RegisterFlags(*pflag.FlagSet, string) {}
func (*selfConfig) Validate() error                      { return nil }

func selfDriver() factory.Driver {
	return factory.ClientDriver("self", func() *selfConfig { return &selfConfig{} },
		func(_ context.Context, _ *selfConfig, env factory.Env) (kv.Client, error) {
			return kv.New(inmemory.NewStore().Open(), env.Codec, &env.Options), nil
		})
}

func withBolt() factory.Drivers {
	drivers := factory.Builtin()
	if err := errors.Join(drivers.Add(boltDriver()), drivers.Add(selfDriver())); err != nil {
		panic(err)
	}
	return drivers
}
