package pairs

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/memberlist"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// wrapping puts something between a client and its store.
type wrapping func(driver.Store) driver.Store

// place is one store of a pair.
type place struct {
	name    string
	gossips bool
	open    func(c codec.Codec, o *kv.Options, wrap wrapping) (kv.Client, error)
}

// opening makes a place of what opens handles on its store.
func opening(name string, handle func(log *slog.Logger) (driver.Store, error)) place {
	return place{name: name, open: func(c codec.Codec, o *kv.Options, wrap wrapping) (kv.Client, error) {
		store, err := handle(o.Logger)
		if err != nil {
			return nil, err
		}
		o.Backend = name
		return kv.New(wrap(store), c, o), nil
	}}
}

// places returns what makes the places of a name: one on a server that all
// share, or an empty one each time.
func places(t *testing.T, name string) func(conformance.T) place {
	switch name {
	case "consul":
		cfg := consul.DefaultConfig()
		cfg.Address = consulServer.Get(t).Endpoints()[0]
		at := opening(name, func(log *slog.Logger) (driver.Store, error) { return consul.Open(cfg, log) })
		return func(conformance.T) place { return at }
	case "etcd":
		cfg := etcd.DefaultConfig()
		cfg.Endpoints = etcdServer.Get(t).Endpoints()
		at := opening(name, func(log *slog.Logger) (driver.Store, error) { return etcd.Open(cfg, log) })
		return func(conformance.T) place { return at }
	case "memory":
		return func(conformance.T) place {
			store := inmemory.NewStore()
			return opening(name, func(*slog.Logger) (driver.Store, error) { return store.Open(), nil })
		}
	case "gossip":
		return func(t conformance.T) place {
			node := startNode(t)
			open := func(c codec.Codec, o *kv.Options, _ wrapping) (kv.Client, error) { return node.Client(c, o) }
			return place{name: name, gossips: true, open: open}
		}
	}
	t.Fatalf("there is no place %q", name)
	return nil
}

// startNode starts a node of a cluster of its own.
func startNode(t conformance.T) *memberlist.Node {
	cfg := memberlist.DefaultConfig()
	cfg.NodeName, cfg.ClusterLabel = "node", t.Name()
	cfg.BindAddress, cfg.BindPort = "127.0.0.1", 0
	cfg.AloneInterval = 200 * time.Millisecond
	codecs, err := conformance.Codecs()
	if err != nil {
		t.Fatalf("the suite's codecs: %v", err)
	}
	n, err := memberlist.StartWith(t.Context(), cfg, memberlist.Options{Logger: quiet}, codecs...)
	if err != nil {
		t.Fatalf("starting a node: %v", err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// pair is two stores, of which clients see what has a prefix.
type pair struct {
	prefix string
	places [2]place // the primary first
}

// onServers is the pair that clients of Consul and etcd see below a prefix.
func onServers(t *testing.T, prefix string) pair {
	return pair{prefix, [2]place{places(t, "consul")(t), places(t, "etcd")(t)}}
}

// open opens a client of one of the stores, which the caller closes.
func (p pair) open(i int, c codec.Codec, o kv.Options, wrap wrapping) (kv.Client, error) {
	client, err := p.places[i].open(c, &o, wrap)
	if err != nil {
		return nil, fmt.Errorf("opening a client of %s: %w", p.places[i].name, err)
	}
	return kv.Prefix(client, p.prefix)
}

func unwrapped(s driver.Store) driver.Store { return s }

// plain opens a client of strings.
func (p pair) plain(i int) (kv.Client, error) {
	return p.open(i, codec.String{}, kv.Options{Logger: quiet}, unwrapped)
}

// migration opens both stores as an operator does.
func (p pair) migration() (m *migrate.Migration, closeBoth func(), err error) {
	var backends [2]migrate.Backend
	for i := range p.places {
		c, err := p.plain(i)
		if err != nil {
			return nil, nil, err
		}
		backends[i] = migrate.Backend{Name: p.places[i].name, Client: c}
	}
	m, err = migrate.New(backends[0], backends[1], migrate.Options{
		AllowNoClients: true, AllowEmpty: true, AllowDifferences: true, AllowMisconfigured: true, AllowUnreachable: true,
	})
	return m, func() {
		for _, b := range backends {
			b.Client.Close()
		}
	}, err
}
