// Package servers runs the conformance suite of multi-clients on pairs of real
// servers, and a whole migration between them, Consul to etcd and back, with
// coordinated clients that write all the while. The fleet of processes that is
// moved between them is in e2e.
package servers

import (
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/multi/migrate"
)

var (
	quiet        = slog.New(slog.DiscardHandler)
	etcdServer   = servertest.SharedEtcd(testserver.Options{NoFsync: true})
	consulServer = servertest.SharedConsul(testserver.Options{})
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(servertest.Main(m, etcdServer, consulServer))
}

func soak() bool { return os.Getenv("POLYKV_SOAK") != "" }

// pair is two stores on real servers.
type pair struct {
	prefix string    // of both
	stores [2]string // their names, the primary first
	etcd   []string  // endpoints
	consul string    // address
}

// onServers is a pair on the shared servers, without a prefix.
func onServers(t *testing.T, primary, secondary string) pair {
	return pair{
		stores: [2]string{primary, secondary},
		etcd:   etcdServer.Get(t).Endpoints(), consul: consulServer.Get(t).Endpoints()[0],
	}
}

// store opens a handle on one store.
func (p pair) store(name string, log *slog.Logger) (driver.Store, error) {
	if name == "etcd" {
		cfg := etcd.DefaultConfig()
		cfg.Endpoints = p.etcd
		return etcd.Open(cfg, log)
	}
	cfg := consul.DefaultConfig()
	cfg.Address = p.consul
	return consul.Open(cfg, log)
}

// open opens a client of one store, which the caller closes.
func (p pair) open(name string) (kv.Client, error) {
	store, err := p.store(name, quiet)
	if err != nil {
		return nil, err
	}
	return kv.Prefix(kv.New(store, codec.String{}, &kv.Options{Backend: name, Logger: quiet}), p.prefix)
}

// migration opens both stores as an operator does.
func (p pair) migration() (m *migrate.Migration, closeBoth func(), err error) {
	var backends [2]migrate.Backend
	for i, name := range p.stores {
		c, err := p.open(name)
		if err != nil {
			return nil, nil, err
		}
		backends[i] = migrate.Backend{Name: name, Client: c}
	}
	m, err = migrate.New(backends[0], backends[1], migrate.Options{})
	return m, func() {
		for _, b := range backends {
			b.Client.Close()
		}
	}, err
}
