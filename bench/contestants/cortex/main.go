// The cortex contestant runs the benchmark's work on Cortex's client.
package main

import (
	"flag"
	"fmt"
	"io"

	"github.com/cortexproject/cortex/pkg/ring/kv/codec"
	"github.com/cortexproject/cortex/pkg/ring/kv/consul"
	"github.com/cortexproject/cortex/pkg/ring/kv/etcd"
	"github.com/go-kit/log"

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
	return nil, fmt.Errorf("Cortex has no backend %q", t.Backend)
}

// memory is one store that all clients of the process share.
type memory struct {
	client *consul.Client
	io.Closer
}

func (m memory) Client() (workload.Client, error) { return m.client, nil }

// server is an etcd or Consul. Cortex's clients can't be closed; they end with
// the process.
type server struct{ target workload.Target }

func (s server) Client() (workload.Client, error) {
	flags := flag.NewFlagSet("", flag.ContinueOnError) // registering sets the defaults
	if s.target.Backend == "etcd" {
		var cfg etcd.Config
		cfg.RegisterFlags(flags)
		cfg.Endpoints = s.target.Endpoints
		return etcd.New(cfg, codec.String{}, log.NewNopLogger())
	}
	var cfg consul.Config
	cfg.RegisterFlags(flags, "")
	cfg.Host = s.target.Endpoints[0]
	return consul.NewClient(cfg, codec.String{}, log.NewNopLogger(), nil)
}

func (s server) Close() error { return nil }
