package etcd

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// Config says how to reach an etcd cluster. Start from [DefaultConfig]; the
// zero value is not valid.
type Config struct {
	// Endpoints are the client URLs of the cluster's members: host:port,
	// http://host:port, https://host:port, unix:///path, unixs:///path or
	// dnssrv+name, the name of a DNS service record whose targets they are. Calls
	// are spread over those in reach, and over all addresses of a name; names
	// are looked up again every 30 s. Either all or none use TLS.
	Endpoints []string `yaml:"endpoints"`

	// SyncInterval is how often the cluster is asked for its members, whose
	// client URLs then take the place of Endpoints: clients live on while all
	// members are replaced, one after another. The members must advertise URLs
	// that clients can reach. 0: never.
	SyncInterval time.Duration `yaml:"sync_interval"`

	// Root is what stands before every key in the store, such as another tool's
	// "/app/". It belongs to the address of the store: clients don't see it, and
	// rule K1 of kv.Client doesn't hold for it. At most 256 bytes.
	Root kit.Root `yaml:"root"`

	// Username and Password, or PasswordFile, which holds it, log in to a
	// cluster with authentication enabled. The file is read again when it
	// changes, so that the password can be replaced.
	Username     string        `yaml:"username"`
	Password     config.Secret `yaml:"password"`
	PasswordFile string        `yaml:"password_file"`

	// TLS is used if it is enabled or the endpoints begin with https:// or
	// unixs://, and can't be combined with http://.
	TLS config.TLS `yaml:"tls"`

	// DialTimeout bounds one attempt to connect to one endpoint, the TLS
	// handshake included.
	DialTimeout time.Duration `yaml:"dial_timeout"`

	// KeepAliveTime is how long a connection may be silent while a call or
	// watch is running on it before the server is pinged, and KeepAliveTimeout
	// how long the answer may take before the connection is given up: a server
	// that stopped without a word is noticed after the sum of both. gRPC pings
	// no more often than every 10 seconds, and a default etcd closes
	// connections that ping more often than every 5 (--grpc-keepalive-min-time).
	KeepAliveTime    time.Duration `yaml:"keepalive_time"`
	KeepAliveTimeout time.Duration `yaml:"keepalive_timeout"`

	// SerializableReads serves those reads that may be stale from the member
	// that receives them, without asking its leader. They are cheaper, and
	// possible without a quorum, but may lag.
	SerializableReads bool `yaml:"serializable_reads"`

	// MaxRequestBytes is the servers' --max-request-bytes, from which the
	// largest allowed value follows: this minus what surrounds a value in a
	// request, at most 3 KiB and the root (see driver.Limits).
	MaxRequestBytes int `yaml:"max_request_bytes"`

	// ScanPageSize is how many keys one request of a listing may return. A
	// page of values ends earlier, at about 8 MiB.
	ScanPageSize int `yaml:"scan_page_size"`
}

const (
	// maxKey is the longest key that package kv allows (rule K1), in bytes.
	maxKey = 512

	// maxGuards leaves the bytes of a request to values: its keys may be long.
	// A default server takes 128 operations.
	maxGuards = 8

	minKeepAliveTime   = 10 * time.Second // google.golang.org/grpc raises less to this
	minRequestBytes    = 8 << 10          // leaves room for a value beside two keys
	maxRequestBytes    = 1 << 30          // gRPC's limit is near 2 GiB
	maxCommonName      = 64               // a user named by a client certificate (RFC 5280, ub-common-name)
	defaultRequestSize = 1536 << 10       // etcd's own default
)

// DefaultConfig returns the defaults: one server on this machine.
func DefaultConfig() Config {
	return Config{
		Endpoints:        []string{"127.0.0.1:2379"},
		DialTimeout:      5 * time.Second,
		KeepAliveTime:    minKeepAliveTime,
		KeepAliveTimeout: 3 * time.Second,
		MaxRequestBytes:  defaultRequestSize,
		ScanPageSize:     10_000,
	}
}

// RegisterFlags adds a flag for every field to fs, named prefix plus the
// field's name in YAML with dashes. The defaults are c's present values.
func (c *Config) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	fs.StringSliceVar(&c.Endpoints, prefix+"endpoints", c.Endpoints, "client endpoints of the etcd members, with commas between them: "+endpointForms.String()+"; all or none use TLS")
	fs.DurationVar(&c.SyncInterval, prefix+"sync-interval", c.SyncInterval, "how often the cluster is asked for its members, which then are the endpoints; 0: never")
	fs.StringVar((*string)(&c.Root), prefix+"root", string(c.Root), "what stands in the store before every key, such as /app/, hidden from clients; at most 256 bytes; empty: nothing")
	fs.StringVar(&c.Username, prefix+"username", c.Username, "user to log in as, with password or password-file; empty: no authentication")
	fs.Var(&c.Password, prefix+"password", "password of the user that username names; empty: that of password-file, or no authentication")
	fs.StringVar(&c.PasswordFile, prefix+"password-file", c.PasswordFile, "file that holds the password of the user that username names, read again when it changes; empty: none")
	c.TLS.RegisterFlags(fs, prefix)
	fs.DurationVar(&c.DialTimeout, prefix+"dial-timeout", c.DialTimeout, "limit for one attempt to connect to one endpoint, the TLS handshake included; more than 0")
	fs.DurationVar(&c.KeepAliveTime, prefix+"keepalive-time", c.KeepAliveTime, "how long a connection with calls or watches may be silent before the server is pinged; at least 10s")
	fs.DurationVar(&c.KeepAliveTimeout, prefix+"keepalive-timeout", c.KeepAliveTimeout, "how long a ping's answer may take before the connection is given up; more than 0")
	fs.BoolVar(&c.SerializableReads, prefix+"serializable-reads", c.SerializableReads, "have reads that may be stale served by the member that gets them, without asking the leader")
	fs.IntVar(&c.MaxRequestBytes, prefix+"max-request-bytes", c.MaxRequestBytes, "the servers' --max-request-bytes in `bytes`, from which the largest allowed value follows; 8192 to 1073741824")
	fs.IntVar(&c.ScanPageSize, prefix+"scan-page-size", c.ScanPageSize, "most `keys` in one page of a listing, which also ends at about 8 MiB; more than 0")
}

var endpointForms = kit.Forms{Schemes: []string{"http", "https", "unix", "unixs"}, Secrets: "username and password"}

// Validate reports the first wrong field, by its name in YAML, and what is
// allowed. It reads the files that TLS names and contacts no server.
func (c Config) Validate() error {
	_, _, err := c.check()
	return err
}

// check is Validate, and returns the endpoints with what secures connections, nil
// if they are plain. The endpoints must agree on that, since gRPC secures all
// connections of a client in one way.
func (c Config) check() (endpoints []kit.Address, tls *config.Renewing, err error) {
	endpoints, tls, err = endpointForms.Servers(c.Endpoints, "endpoints", c.TLS)
	switch {
	case err != nil:
	case c.Username == "" && c.PasswordFile != "":
		err = errors.New("username: is empty, but password_file is set; set both, or neither")
	case c.Username == "" && c.Password.Reveal() != "":
		err = errors.New("username: is empty, but password is set; set both, or neither")
	case c.SyncInterval < 0:
		err = fmt.Errorf("sync_interval: %v is not allowed; it must be more than 0, or 0 to leave the members alone", c.SyncInterval)
	case c.KeepAliveTime < minKeepAliveTime:
		err = fmt.Errorf("keepalive_time: %v is not allowed; it must be at least %v", c.KeepAliveTime, minKeepAliveTime)
	}
	return endpoints, tls, cmp.Or(err,
		kit.CheckLogin(c.Username, c.Password, c.PasswordFile),
		c.Root.Validate(),
		kit.Positive("dial_timeout", c.DialTimeout),
		kit.Positive("keepalive_timeout", c.KeepAliveTimeout),
		kit.Between("max_request_bytes", c.MaxRequestBytes, minRequestBytes, maxRequestBytes),
		kit.Positive("scan_page_size", c.ScanPageSize))
}

// limits follow from etcd's check that a proposal is not larger than
// --max-request-bytes: the transaction and its header, encoded. The keys are
// taken to be of full length, so that a value's limit does not depend on its
// key.
func (c Config) limits() driver.Limits {
	w := driver.Swap{Key: strings.Repeat("k", maxKey), Value: make([]byte, c.MaxRequestBytes)}
	w.Prev.Version = math.MaxInt64
	room := func() int { return 2*c.MaxRequestBytes - c.proposalSize(w) }
	limits := driver.Limits{Key: maxKey, Value: room(), Guards: maxGuards}
	w.Guards = slices.Repeat([]driver.Guard{{Key: w.Key, Version: w.Prev.Version}}, maxGuards)
	limits.GuardedValue = room()
	return limits
}

// proposalSize returns how large the server's proposal of w can become.
func (c Config) proposalSize(w driver.Swap) int {
	// Through the adapter, since etcd's messages before 3.7 are of another kind.
	return proto.Size(protoadapt.MessageV2Of(&pb.InternalRaftRequest{
		Header: &pb.RequestHeader{
			ID:           math.MaxUint64,
			Username:     strings.Repeat("u", max(maxCommonName, len(c.Username))),
			AuthRevision: math.MaxUint64,
		},
		Txn: c.swapRequest(w),
	}))
}
