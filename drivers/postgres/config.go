package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver/kit"
)

// Config says how to reach a table. Start from [NewConfig]; the zero value is not
// valid.
type Config struct {
	// Servers are the primary and those that may take its place, as host:port. A
	// connection is made to the first of them that takes writes.
	Servers []string `yaml:"servers"`

	// Database has the Table, which is a name or schema.name, and is created with
	// its function if Create is set and there is none.
	Database string `yaml:"database"`
	Table    string `yaml:"table"`
	Create   bool   `yaml:"create"`

	// Username and Password, or PasswordFile, which holds it and is read again for
	// each connection, log in.
	Username     string        `yaml:"username"`
	Password     config.Secret `yaml:"password"`
	PasswordFile string        `yaml:"password_file"`

	TLS config.TLS `yaml:"tls"`

	// DialTimeout bounds one attempt to connect to one server.
	DialTimeout time.Duration `yaml:"dial_timeout"`

	// MaxConns is how many connections there are at most, beside one that listens
	// while watches run.
	MaxConns int `yaml:"max_conns"`

	// MaxValueSize limits a value, in bytes.
	MaxValueSize int `yaml:"max_value_size"`
}

var (
	tableName   = regexp.MustCompile(`^([a-z_][a-z0-9_]{0,50}\.)?[a-z_][a-z0-9_]{0,50}$`)
	serverForms = kit.Forms{Secrets: "username and password"}
)

// NewConfig returns the defaults: a table "polykv" in the database "postgres" of a
// server on this machine, which is created; 8 connections, values up to 1 MiB.
func NewConfig() *Config {
	return &Config{
		Servers: []string{"127.0.0.1:5432"}, Database: "postgres", Table: "polykv", Create: true, Username: "postgres",
		DialTimeout: 2 * time.Second, MaxConns: 8, MaxValueSize: 1 << 20,
	}
}

// RegisterFlags implements factory.Section of package kv/factory.
func (c *Config) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	fs.StringSliceVar(&c.Servers, prefix+"servers", c.Servers, "the primary and those that may take its place, as host:port")
	fs.StringVar(&c.Database, prefix+"database", c.Database, "the database")
	fs.StringVar(&c.Table, prefix+"table", c.Table, "the table, as name or schema.name")
	fs.BoolVar(&c.Create, prefix+"create", c.Create, "make the table and its function if there is none")
	fs.StringVar(&c.Username, prefix+"username", c.Username, "user to log in as")
	fs.Var(&c.Password, prefix+"password", "password of the user")
	fs.StringVar(&c.PasswordFile, prefix+"password-file", c.PasswordFile, "file with the password of the user; read again for each connection")
	c.TLS.RegisterFlags(fs, prefix)
	fs.DurationVar(&c.DialTimeout, prefix+"dial-timeout", c.DialTimeout, "limit for one attempt to connect")
	fs.IntVar(&c.MaxConns, prefix+"max-conns", c.MaxConns, "most connections at a time, beside one that listens")
	fs.IntVar(&c.MaxValueSize, prefix+"max-value-size", c.MaxValueSize, "largest value in `bytes`")
}

// Validate implements factory.Section of package kv/factory. It reads the files
// that it names and contacts no server.
func (c *Config) Validate() error {
	_, _, err := c.check()
	return err
}

// largestValue is what a field of a row may have at most, with room to spare.
const largestValue = 256 << 20

// check is Validate, and returns the servers with what secures connections, nil if
// they are plain.
func (c *Config) check() (servers []kit.Address, tls *config.Renewing, err error) {
	servers, tls, err = serverForms.Servers(c.Servers, "servers", c.TLS)
	for i, a := range servers {
		if err == nil && a.Network != "tcp" {
			err = fmt.Errorf("servers[%d]: %q is not allowed; it must be host:port", i, c.Servers[i])
		}
	}
	switch {
	case err != nil:
	case c.Database == "":
		err = errors.New("database: is empty; it must name the database")
	case c.Username == "":
		err = errors.New("username: is empty; it must name a user of the database")
	case !tableName.MatchString(c.Table):
		err = fmt.Errorf("table: %q is not allowed; it must be of lower-case letters, digits and _, with a dot after the schema, at most 51 each", c.Table)
	}
	return servers, tls, cmp.Or(err,
		kit.CheckSecret("password", c.Password, "password_file", c.PasswordFile),
		kit.Positive("dial_timeout", c.DialTimeout),
		kit.Between("max_conns", c.MaxConns, 1, 10_000),
		kit.Between("max_value_size", c.MaxValueSize, 1, largestValue))
}
