// The dskit contestant runs the benchmark's work on Grafana's dskit.
package main

import (
	"flag"
	"fmt"
	"io"

	"github.com/go-kit/log"
	"github.com/grafana/dskit/kv/codec"
	"github.com/grafana/dskit/kv/consul"
	"github.com/grafana/dskit/kv/etcd"

	"github.com/polykv/polykv/bench/workload"
)

func main() { workload.Main(open) }

func open(t workload.Target) (workload.Store, error) {
	switch t.Backend {
	case "memory":
		// What its factory does for "inmemory".
		client, closer := consul.NewInMemoryClient(codec.String{}, log.NewNopLogger(), nil)
		return memory{client, closer}, nil
	case "etcd", "consul":
		return server{t}, nil
	}
	if t.Backend == "gossip" {
		return openCluster(t)
	}
	return nil, fmt.Errorf("dskit has no backend %q", t.Backend)
}

// memory is one store that all clients of the process share.
type memory struct {
	client *consul.Client
	io.Closer
}

func (m memory) Client() (workload.Client, error) { return m.client, nil }

// server is an etcd or Consul. dskit's clients can't be closed; they end with
// the process.
type server struct{ target workload.Target }

func (s server) Client() (workload.Client, error) {
	if s.target.Backend == "etcd" {
		return etcd.New(etcdConfig(s.target), codec.String{}, log.NewNopLogger())
	}
	return consul.NewClient(consulConfig(s.target), codec.String{}, log.NewNopLogger(), nil)
}

func (s server) Close() error { return nil }

func etcdConfig(t workload.Target) etcd.Config {
	var cfg etcd.Config
	cfg.RegisterFlags(flag.NewFlagSet("", flag.ContinueOnError)) // sets the defaults
	cfg.Endpoints = t.Endpoints
	if t.Tuned {
		cfg.MaxRetries = 100_000 // by default it gives up after ten conflicts
	}
	return cfg
}

func consulConfig(t workload.Target) consul.Config {
	var cfg consul.Config
	cfg.RegisterFlags(flag.NewFlagSet("", flag.ContinueOnError), "")
	cfg.Host = t.Endpoints[0]
	if t.Tuned {
		cfg.WatchKeyRateLimit = 0   // by default once a second
		cfg.MaxCasRetries = 100_000 // by default ten
	}
	return cfg
}
