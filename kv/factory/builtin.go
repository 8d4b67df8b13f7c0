package factory

import (
	"cmp"
	"context"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/metrics"
	"github.com/polykv/polykv/kv/multi"
)

// Builtin returns polykv's own drivers.
func Builtin() Drivers {
	return Drivers{list: []Driver{ // sorted by name
		builtin(StoreDriver("consul", pointerTo(consul.DefaultConfig), openConsul), "github.com/hashicorp/consul/api",
			func(c *Config) Section { return &c.Consul }, consulTarget),
		builtin(StoreDriver("etcd", pointerTo(etcd.DefaultConfig), openEtcd), "go.etcd.io/etcd/client/v3",
			func(c *Config) Section { return &c.Etcd }, etcdTarget),
		builtin(StoreDriver("inmemory", pointerTo(DefaultInMemoryConfig), openInMemory), "",
			func(c *Config) Section { return &c.InMemory }, nil),
		gossiping(builtin(ClientDriver("memberlist", pointerTo(memberlist.DefaultConfig), openMemberlist), "github.com/hashicorp/memberlist",
			func(c *Config) Section { return &c.Memberlist }, memberlistTarget)),
	}}
}

// builtin gives d what only drivers with a field in Config have.
func builtin(d Driver, library string, field func(*Config) Section, target func(*Config) Target) Driver {
	d.Library, d.field, d.target = library, field, target
	return d
}

// gossiping says that d's store is spread by gossip.
func gossiping(d Driver) Driver {
	d.gossip = true
	return d
}

func openConsul(_ context.Context, c *consul.Config, env Env) (driver.Store, error) {
	return consul.Open(*c, env.Options.Logger)
}

func consulTarget(c *Config) Target {
	// As consul.Open does: what is empty comes from Consul's own environment.
	address := cmp.Or(c.Consul.Address, os.Getenv("CONSUL_HTTP_ADDR"), "127.0.0.1:8500")
	// A server without a leader says so after 7 s, and only then.
	return Target{Address: address, DialTimeout: max(c.Consul.DialTimeout, 9*time.Second)}
}

func openEtcd(_ context.Context, c *etcd.Config, env Env) (driver.Store, error) {
	return etcd.Open(*c, env.Options.Logger)
}

func etcdTarget(c *Config) Target {
	return Target{Address: strings.Join(c.Etcd.Endpoints, ", "), DialTimeout: c.Etcd.DialTimeout}
}

func openMemberlist(ctx context.Context, c *memberlist.Config, env Env) (kv.Client, error) {
	if env.Memberlist != nil {
		return env.Memberlist.Client(env.Codec, &env.Options)
	}
	client, err := memberlist.Open(ctx, *c, env.Codec, &env.Options, env.Codecs...)
	if err != nil {
		return nil, err
	}
	if env.Registerer == nil {
		return client, nil
	}
	figures := metrics.Figures(client.Node().Figures, prometheus.Labels{"node": client.Node().Name()})
	if err := env.Registerer.Register(figures); err != nil { // another node of that name, in this process
		env.Options.Logger.Warn("gossip: the node has no metrics", "error", err)
		return client, nil
	}
	return newMeasured(client, func() error {
		env.Registerer.Unregister(figures)
		return client.Close()
	}), nil
}

// measured is a client of a node whose figures are published as long as it is
// open, or a view of one. Either's Close is the client's.
type measured struct {
	kv.Views
	close func() error
}

func newMeasured(c kv.Client, closeAll func() error) kv.Client {
	wrap := func(view kv.Client) kv.Client { return newMeasured(view, closeAll) }
	return &measured{kv.Views{Forward: kv.Forward{Client: c}, Wrap: wrap}, closeAll}
}

func (m *measured) Close() error { return m.close() }

func memberlistTarget(c *Config) Target {
	return Target{Address: strings.Join(c.Memberlist.Join, ", "), DialTimeout: c.Memberlist.JoinTimeout}
}

// setDefaults fills the client's options and the fields that belong to c's
// drivers, as far as nobody has filled them.
func (c *Config) setDefaults() {
	fill(&c.Client, pointerTo(DefaultClientConfig)())
	for _, d := range c.drivers.list {
		if d.field != nil {
			fill(d.field(c), d.newSection())
		}
	}
	if !c.side {
		c.RecordCheck = cmp.Or(c.RecordCheck, multi.RecordRefuse)
		c.Multi.init(c.drivers)
	}
}

// fill copies the struct behind one pointer to the zero one behind another.
func fill(zero, value any) {
	if target := reflect.ValueOf(zero).Elem(); target.IsZero() {
		target.Set(reflect.ValueOf(value).Elem())
	}
}

// pointerTo returns a function that makes a new variable of what f returns.
func pointerTo[T any](f func() T) func() *T {
	return func() *T {
		value := f()
		return &value
	}
}
