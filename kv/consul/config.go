package consul

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver/kit"
)

// Config says how to reach Consul. Start from [DefaultConfig]; the zero value
// is not valid.
//
// [Open] takes what is empty here from the environment variables that Consul's
// own tools use:
//
//	CONSUL_HTTP_ADDR         Address
//	CONSUL_HTTP_TOKEN_FILE   TokenFile, if Token is empty too
//	CONSUL_HTTP_TOKEN        Token, if there is no token file from anywhere
//	CONSUL_NAMESPACE         Namespace
//	CONSUL_PARTITION         Partition
//	CONSUL_HTTP_SSL          TLS.Enabled
//	CONSUL_CACERT            TLS.CAFile
//	CONSUL_CAPATH            a folder of such files, if there is no CAFile
//	CONSUL_CLIENT_CERT       TLS.CertFile, and
//	CONSUL_CLIENT_KEY        TLS.KeyFile, if both are empty
//	CONSUL_TLS_SERVER_NAME   TLS.ServerName
//	CONSUL_HTTP_SSL_VERIFY   TLS.InsecureSkipVerify, if false
//	CONSUL_HTTP_AUTH         user:password for a proxy in front of Consul
//
// Those about certificates apply to connections with TLS only.
type Config struct {
	// Address is an agent or server: host:port, http://host:port,
	// https://host:port, unix:///path or dnssrv+name, the name of a DNS service
	// record. It may also be several of these, with commas between them, or a
	// name with several addresses: connections go to the first that can be
	// reached. An URL may end in a path, for a gateway that strips it. Empty:
	// 127.0.0.1:8500.
	Address string `yaml:"address"`

	// Token is the ACL token, and TokenFile a file that holds it; at most one
	// is set. The file is looked at again, once a second at most, and when the
	// token is refused, so that a token can be replaced.
	Token     config.Secret `yaml:"token"`
	TokenFile string        `yaml:"token_file"`

	// Root is what stands before every key in the store, such as another tool's
	// "app/". It belongs to the address of the store: clients don't see it, and
	// rule K1 of kv.Client doesn't hold for it. At most 256 bytes.
	Root kit.Root `yaml:"root"`

	// Datacenter is where the keys are. Empty: the agent's own.
	Datacenter string `yaml:"datacenter"`

	// Namespace and Partition need Consul Enterprise. Any other server's
	// refusal is kv.ErrNotSupported.
	Namespace string `yaml:"namespace"`
	Partition string `yaml:"partition"`

	// TLS is used if it is enabled or Address begins with https://, and can't
	// be combined with http://.
	TLS config.TLS `yaml:"tls"`

	// Consistency is how reads are served that may be stale:
	// "consistent", "default" or "stale", see
	// https://developer.hashicorp.com/consul/api-docs/features/consistency.
	// All other reads are consistent.
	Consistency string `yaml:"consistency"`

	// WaitTime is how long a watch's query waits for a change before it is
	// made again; Consul adds up to a sixteenth. A server that stopped without
	// a word is noticed 5 s after that. From 1 s to 60 s.
	WaitTime time.Duration `yaml:"wait_time"`

	// DialTimeout bounds one attempt to connect, and then a TLS handshake.
	DialTimeout time.Duration `yaml:"dial_timeout"`

	// MaxValueSize is the servers' kv_max_value_size, in bytes. A write with a
	// guard has to fit a transaction, whose limit is at least the same; base64
	// and JSON leave somewhat less than three quarters of it for the value.
	MaxValueSize int `yaml:"max_value_size"`

	// MaxConns is how many connections there are at most, watches excepted,
	// each of which has one of its own: an agent by default takes 200 from one
	// client address (limits.http_max_conns_per_client). Requests wait for a
	// free one.
	MaxConns int `yaml:"max_conns"`

	// Proxy is the URL of an HTTP or SOCKS5 proxy to pass, or "environment" for
	// what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say, which net/http reads once in
	// a process (http.ProxyFromEnvironment). Empty: none, whatever the
	// environment says, since a proxy may send a write a second time. A
	// conflict behind one is therefore believed only after a look at whose
	// write the key holds, which costs a read.
	Proxy config.Secret `yaml:"proxy"`
}

// The consistency modes.
const (
	consistent        = "consistent"
	defaultConsistent = "default"
	stale             = "stale"
)

const (
	maxKey = 512 // the longest key that package kv allows (rule K1), in bytes

	proxyFromEnvironment = "environment"

	defaultAddress   = "127.0.0.1:8500"
	defaultValueSize = 512 << 10 // Consul's default
	minValueSize     = 16 << 10  // leaves room for a value beside two keys
	maxValueSize     = 1 << 30
	maxWaitTime      = time.Minute
)

// DefaultConfig returns the defaults: an agent on this machine.
func DefaultConfig() Config {
	return Config{
		Consistency:  consistent,
		WaitTime:     10 * time.Second,
		DialTimeout:  5 * time.Second,
		MaxValueSize: defaultValueSize,
		MaxConns:     16,
	}
}

// RegisterFlags adds a flag for every field to flags, named prefix plus the
// field's name in YAML with dashes. The defaults are c's present values.
func (c *Config) RegisterFlags(flags *pflag.FlagSet, prefix string) {
	flags.StringVar(&c.Address, prefix+"address", c.Address, "Consul agents, with commas between them: "+addressForms.String()+"; the first that can be reached is used; empty: $CONSUL_HTTP_ADDR or "+defaultAddress)
	flags.Var(&c.Token, prefix+"token", "ACL token; empty: that of token-file, $CONSUL_HTTP_TOKEN_FILE or $CONSUL_HTTP_TOKEN, or none")
	flags.StringVar(&c.TokenFile, prefix+"token-file", c.TokenFile, "file that holds the ACL token, read again when it changes; empty: $CONSUL_HTTP_TOKEN_FILE, or none")
	flags.StringVar(&c.Datacenter, prefix+"datacenter", c.Datacenter, "datacenter of the keys; empty: the agent's own")
	flags.StringVar(&c.Namespace, prefix+"namespace", c.Namespace, "namespace of the keys, which takes Consul Enterprise; empty: $CONSUL_NAMESPACE, or the token's own")
	flags.StringVar(&c.Partition, prefix+"partition", c.Partition, "admin partition of the keys, which takes Consul Enterprise; empty: $CONSUL_PARTITION, or the agent's own")
	c.TLS.RegisterFlags(flags, prefix)
	flags.StringVar(&c.Consistency, prefix+"consistency", c.Consistency, "how reads are served that may be stale: consistent (as all others), default (by the leader, without asking the others) or stale (by any server)")
	flags.DurationVar(&c.WaitTime, prefix+"wait-time", c.WaitTime, "how long one query of a watch waits for a change before it is made again; 1s to 60s")
	flags.DurationVar(&c.DialTimeout, prefix+"dial-timeout", c.DialTimeout, "limit for one attempt to connect, and again for the TLS handshake; more than 0")
	flags.IntVar(&c.MaxValueSize, prefix+"max-value-size", c.MaxValueSize, "the servers' kv_max_value_size in `bytes`, from which the largest allowed value follows; 16384 to 1073741824")
	flags.IntVar(&c.MaxConns, prefix+"max-conns", c.MaxConns, "most `connections` at a time, beside one for each watch; more than 0")
	flags.Var(&c.Proxy, prefix+"proxy", "URL of an HTTP or SOCKS5 proxy to pass, or environment for the one that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name; empty: none")
	flags.StringVar((*string)(&c.Root), prefix+"root", string(c.Root), "what stands in the store before every key, such as app/, hidden from clients; at most 256 bytes; empty: nothing")
}

// Validate reports the first wrong field, by its name in YAML, and what is
// allowed. It reads the files that are named and contacts no server. It does
// not look at the environment; [Open] does.
func (c Config) Validate() error {
	_, err := c.endpoint()
	if err == nil {
		err = c.checkTokens()
	}
	switch c.Consistency {
	case consistent, defaultConsistent, stale:
	default:
		err = cmp.Or(err, fmt.Errorf("consistency: %q is not allowed; it must be consistent, default or stale", c.Consistency))
	}
	if c.WaitTime < time.Second || c.WaitTime > maxWaitTime {
		err = cmp.Or(err, fmt.Errorf("wait_time: %v is not allowed; it must be 1s to 60s", c.WaitTime))
	}
	return cmp.Or(err,
		c.Root.Validate(),
		kit.Positive("dial_timeout", c.DialTimeout),
		kit.Between("max_value_size", c.MaxValueSize, minValueSize, maxValueSize),
		kit.Positive("max_conns", c.MaxConns))
}

func (c Config) checkTokens() error {
	if err := kit.CheckSecret("token", c.Token, "token_file", c.TokenFile); err != nil {
		return err
	}
	if _, err := checkToken(c.Token.Reveal()); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	if c.TokenFile == "" {
		return nil
	}
	if err := checkTokenFile(c.TokenFile); err != nil {
		return fmt.Errorf("token_file: %w", err)
	}
	return nil
}

// checkToken returns a token without the white space around it. Its errors
// don't quote it.
func checkToken(text string) (string, error) {
	token := strings.TrimSpace(text)
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", errors.New("holds characters that no token has; it must be one token and nothing else")
	}
	return token, nil
}

func checkTokenFile(file string) error {
	token, err := kit.ReadSecret(file)
	if err == nil {
		_, err = checkToken(token)
	}
	if err != nil && !errors.As(err, new(*fs.PathError)) {
		err = &fs.PathError{Op: "read", Path: file, Err: err}
	}
	return err
}

// answerTime is how long a watch's query may be without an answer.
func (c Config) answerTime() time.Duration { return c.WaitTime + c.WaitTime/16 + 5*time.Second }
