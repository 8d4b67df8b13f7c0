package nats

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

// Config says how to reach a bucket. Start from [NewConfig]; the zero value is
// not valid.
type Config struct {
	// Servers are those of the cluster: host:port, nats://host:port,
	// tls://host:port, or dnssrv+name, the name of a DNS service record. Each
	// connection is made to one of them, in any order. Either all or none
	// use TLS.
	Servers []string `yaml:"servers"`

	// Bucket is the name of the key-value bucket. Domain is that of JetStream, if
	// it is another than the server's own.
	Bucket string `yaml:"bucket"`
	Domain string `yaml:"domain"`

	// Create makes the bucket if there is none, with so many Replicas. It keeps
	// one state of each key, in files.
	Create   bool `yaml:"create"`
	Replicas int  `yaml:"replicas"`

	// MarkerTTL is how long the mark of a removal is kept, at least a second, on a
	// server that can let it go. 0: for ever, or until the bucket is purged.
	MarkerTTL time.Duration `yaml:"marker_ttl"`

	// Username and Password, or PasswordFile, which holds it, log in. Without a
	// name it is a token. CredentialsFile has a JWT and its key instead. Files
	// are read again for each connection.
	Username        string        `yaml:"username"`
	Password        config.Secret `yaml:"password"`
	PasswordFile    string        `yaml:"password_file"`
	CredentialsFile string        `yaml:"credentials_file"`

	// TLS is used if it is enabled or the servers begin with tls://.
	TLS config.TLS `yaml:"tls"`

	// DialTimeout bounds one attempt to connect to one server.
	DialTimeout time.Duration `yaml:"dial_timeout"`

	// PingInterval is how often a server is asked whether it is still there. It is
	// given up when two of these were not answered.
	PingInterval time.Duration `yaml:"ping_interval"`

	// MaxPayload is the servers' max_payload in bytes, from which the largest
	// allowed value follows: 1 KiB less.
	MaxPayload int `yaml:"max_payload"`
}

// headerRoom is what the headers of a message may take of MaxPayload.
const headerRoom = 1 << 10

var (
	bucketName  = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	serverForms = kit.Forms{Schemes: []string{"nats", "tls"}, Secrets: "username and password"}
)

// NewConfig returns the defaults: one server on this machine, and a bucket
// "polykv", which is created with one replica.
func NewConfig() *Config {
	return &Config{
		Servers: []string{"127.0.0.1:4222"}, Bucket: "polykv", Create: true, Replicas: 1, MarkerTTL: time.Hour,
		DialTimeout: 2 * time.Second, PingInterval: 10 * time.Second, MaxPayload: 1 << 20,
	}
}

// RegisterFlags implements factory.Section of package kv/factory.
func (c *Config) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	fs.StringSliceVar(&c.Servers, prefix+"servers", c.Servers, "the servers: "+serverForms.String())
	fs.StringVar(&c.Bucket, prefix+"bucket", c.Bucket, "name of the key-value bucket")
	fs.StringVar(&c.Domain, prefix+"domain", c.Domain, "JetStream domain; empty: the server's own")
	fs.BoolVar(&c.Create, prefix+"create", c.Create, "make the bucket if there is none")
	fs.IntVar(&c.Replicas, prefix+"replicas", c.Replicas, "replicas of a bucket that is made: 1 to 5")
	fs.DurationVar(&c.MarkerTTL, prefix+"marker-ttl", c.MarkerTTL, "how long the mark of a removal is kept; 0: for ever")
	fs.StringVar(&c.Username, prefix+"username", c.Username, "user to log in as; empty: the password is a token")
	fs.Var(&c.Password, prefix+"password", "password of the user, or token")
	fs.StringVar(&c.PasswordFile, prefix+"password-file", c.PasswordFile, "file with the password or token; read again when it changes")
	fs.StringVar(&c.CredentialsFile, prefix+"credentials-file", c.CredentialsFile, "file with a JWT and its key; read again for each connection")
	c.TLS.RegisterFlags(fs, prefix)
	fs.DurationVar(&c.DialTimeout, prefix+"dial-timeout", c.DialTimeout, "limit for one attempt to connect")
	fs.DurationVar(&c.PingInterval, prefix+"ping-interval", c.PingInterval, "how often a server is asked whether it is still there")
	fs.IntVar(&c.MaxPayload, prefix+"max-payload", c.MaxPayload, "the servers' max_payload in `bytes`, which limits the size of values")
}

// Validate implements factory.Section of package kv/factory. It reads the files
// that it names and contacts no server.
func (c *Config) Validate() error {
	_, _, err := c.check()
	return err
}

// check is Validate, and returns the servers with what secures connections, nil if
// they are plain.
func (c *Config) check() (servers []kit.Address, tls *config.Renewing, err error) {
	servers, tls, err = serverForms.Servers(c.Servers, "servers", c.TLS)
	switch {
	case err != nil:
	case c.CredentialsFile != "" && (c.Password.Reveal() != "" || c.PasswordFile != ""):
		err = errors.New("credentials_file: is set, but a password is set too; set one of them")
	case !bucketName.MatchString(c.Bucket):
		err = fmt.Errorf("bucket: %q is not allowed; it must be of letters, digits, - and _", c.Bucket)
	case c.Domain != "" && !bucketName.MatchString(c.Domain):
		err = fmt.Errorf("domain: %q is not allowed; it must be of letters, digits, - and _", c.Domain)
	case c.MarkerTTL != 0 && c.MarkerTTL < time.Second:
		err = fmt.Errorf("marker_ttl: %v is not allowed; it must be at least 1s, or 0 to keep markers", c.MarkerTTL)
	}
	return servers, tls, cmp.Or(err,
		kit.CheckLogin(c.Username, c.Password, c.PasswordFile),
		kit.Between("replicas", c.Replicas, 1, 5),
		kit.Positive("dial_timeout", c.DialTimeout),
		kit.Positive("ping_interval", c.PingInterval),
		kit.Between("max_payload", c.MaxPayload, 4*headerRoom, 64<<20))
}
