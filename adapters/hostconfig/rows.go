package hostconfig

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/factory"
)

// row is one field of a host's.
type row struct {
	name   string // in YAML
	flag   string // if it isn't the name with dashes
	secret bool

	take  func(cfg *factory.Config, v reflect.Value)       // carries the value over; nil: there is no counterpart
	ifSet bool                                             // polykv's default stays where the host's is unchanged
	check func(cfg *factory.Config, v reflect.Value) error // refuses a value; nil: all will do

	// What is said of a value that isn't the host's default: a note, or an
	// error.
	note, refuse string

	inherited string // a note on true, where that is the host's default
}

func (f row) flagName() string {
	if f.flag != "" {
		return f.flag
	}
	switch f.name {
	case "store", "prefix":
		return "ring." + f.name
	}
	return strings.ReplaceAll(f.name, "_", "-")
}

func (f row) show(v reflect.Value) string {
	if f.secret {
		return "<redacted>"
	}
	return show(v)
}

func consulRows() []row {
	return append([]row{
		{name: "consul.host", flag: "consul.hostname", take: func(c *factory.Config, v reflect.Value) { c.Consul.Address = text(v) }},
		{name: "consul.acl_token", secret: true, take: func(c *factory.Config, v reflect.Value) { c.Consul.Token = config.NewSecret(text(v)) }},
		{name: "consul.consistent_reads", take: func(c *factory.Config, v reflect.Value) {
			c.Consul.Consistency = map[bool]string{true: "consistent", false: "default"}[v.Bool()]
		}},
		{name: "consul.http_client_timeout", flag: "consul.client-timeout", note: "not carried over; polykv bounds a request by client.attempt_timeout and a watch's query by consul.wait_time"},
		{name: "consul.watch_rate_limit", note: "not carried over; polykv's watches need no limit"},
		{name: "consul.watch_burst_size", note: "not carried over; polykv's watches need no limit"},
		{name: "consul.cas_retry_delay", note: "not carried over; polykv's pauses are client.min_backoff to client.max_backoff"},
	}, tlsRows("consul", func(c *factory.Config) *config.TLS { return &c.Consul.TLS })...)
}

func etcdRows() []row {
	return append([]row{
		{name: "etcd.endpoints", take: func(c *factory.Config, v reflect.Value) { c.Etcd.Endpoints = list(v) }},
		{name: "etcd.dial_timeout", take: func(c *factory.Config, v reflect.Value) { c.Etcd.DialTimeout = duration(v) }},
		{name: "etcd.username", take: func(c *factory.Config, v reflect.Value) { c.Etcd.Username = text(v) }},
		{name: "etcd.password", secret: true, take: func(c *factory.Config, v reflect.Value) { c.Etcd.Password = config.NewSecret(text(v)) }},
		{name: "etcd.max_retries", note: "not carried over; polykv retries for client.retry_timeout and client.contention_timeout, however often that is"},
		{name: "etcd.ping-without-stream-allowed", note: "not carried over; polykv never pings without a call or a watch, which servers may punish"},
	}, tlsRows("etcd", func(c *factory.Config) *config.TLS { return &c.Etcd.TLS })...)
}

// tlsRows are the fields of a section's TLS. The first one decides whether the
// others count.
func tlsRows(section string, of func(*factory.Config) *config.TLS) []row {
	enabled := func(set func(t *config.TLS, v reflect.Value)) func(*factory.Config, reflect.Value) {
		return func(c *factory.Config, v reflect.Value) {
			if t := of(c); t.Enabled { // else, as in the host, it is of no effect
				set(t, v)
			}
		}
	}
	versions := map[string]string{"": "", "VersionTLS12": "1.2", "VersionTLS13": "1.3"}
	return []row{
		{name: section + ".tls_enabled", take: func(c *factory.Config, v reflect.Value) { of(c).Enabled = v.Bool() }},
		{name: section + ".tls_cert_path", take: enabled(func(t *config.TLS, v reflect.Value) { t.CertFile = text(v) })},
		{name: section + ".tls_key_path", take: enabled(func(t *config.TLS, v reflect.Value) { t.KeyFile = text(v) })},
		{name: section + ".tls_ca_path", take: enabled(func(t *config.TLS, v reflect.Value) { t.CAFile = text(v) })},
		{name: section + ".tls_server_name", take: enabled(func(t *config.TLS, v reflect.Value) { t.ServerName = text(v) })},
		{name: section + ".tls_insecure_skip_verify", take: enabled(func(t *config.TLS, v reflect.Value) { t.InsecureSkipVerify = v.Bool() })},
		{name: section + ".tls_cipher_suites", check: func(c *factory.Config, v reflect.Value) error {
			if of(c).Enabled && text(v) != "" {
				return fmt.Errorf("is %q, and polykv leaves the choice of ciphers to Go; clear it", text(v))
			}
			return nil
		}},
		{name: section + ".tls_min_version", take: enabled(func(t *config.TLS, v reflect.Value) { t.MinVersion = versions[text(v)] }), check: func(c *factory.Config, v reflect.Value) error {
			if _, known := versions[text(v)]; of(c).Enabled && !known {
				return fmt.Errorf("is %q, and polykv speaks VersionTLS12 and VersionTLS13", text(v))
			}
			return nil
		}},
	}
}

func multiRows() []row {
	return []row{
		{name: "multi.primary"}, // read by multi
		{name: "multi.secondary"},
		{name: "multi.mirror_enabled", take: func(c *factory.Config, v reflect.Value) { c.Multi.Mirror = v.Bool() }},
		{name: "multi.mirror_timeout", take: func(c *factory.Config, v reflect.Value) { c.Multi.MirrorTimeout = duration(v) }},
	}
}
