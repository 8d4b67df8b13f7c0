package servers

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/multi"
)

// One case for each rule on pairs of real servers, all of them under
// POLYKV_SOAK: mirroring on, and coordinated.
func TestConformance(t *testing.T) {
	for _, stores := range [][2]string{{"consul", "etcd"}, {"etcd", "consul"}} {
		for _, coordinated := range []bool{false, true} {
			name := fmt.Sprintf("%s to %s", stores[0], stores[1])
			h := conformance.Harness{Parallel: 4, Brief: !soak()}
			if coordinated {
				name += ", coordinated"
				h.Features.Lacks = []conformance.Extra{conformance.Guarded} // the record's guard has their place
			}
			p := onServers(t, stores[0], stores[1])
			h.New = func(t conformance.T) conformance.Store {
				p := p
				p.prefix = fmt.Sprintf("conformance/%x/", rand.Uint64()) // no other case's
				if coordinated {
					p.begin(t)
				}
				return conformance.Store{
					Open:   func(c codec.Codec, o kv.Options) (kv.Client, error) { return p.openFor(c, o, coordinated) },
					Prefix: p.prefix,
				}
			}
			t.Run(name, func(t *testing.T) { conformance.Run(t, h) })
		}
	}
}

// begin writes the records of a migration.
func (p pair) begin(t conformance.T) {
	m, closeBoth, err := p.migration()
	if err != nil {
		t.Fatalf("opening the stores: %v", err)
	}
	defer closeBoth()
	if _, err := m.Start(t.Context()); err != nil {
		t.Fatalf("starting the migration: %v", err)
	}
}

// openFor opens a client for a case of the suite.
func (p pair) openFor(c codec.Codec, o kv.Options, coordinated bool) (kv.Client, error) {
	var backends []multi.Backend
	for _, name := range p.stores {
		store, err := p.store(name, o.Logger)
		if err != nil {
			return nil, err
		}
		o.Backend = name
		client, err := kv.Prefix(kv.New(store, c, &o), p.prefix)
		if err != nil {
			return nil, err
		}
		backends = append(backends, multi.Backend{Name: name, Client: client})
	}
	cfg := multi.DefaultConfig()
	cfg.Coordinated = coordinated
	cfg.MirrorTimeout = 10 * time.Second // a loaded machine must not turn the mirrors off
	return multi.New(cfg, backends, multi.WithLogger(o.Logger))
}
