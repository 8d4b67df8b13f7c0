// Package contestant holds the contestants that need no module of their own:
// polykv, and the raw clients, which do the least that they must and so show
// the limit.
package contestant

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/polykv/polykv/bench/workload"
	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/drivers/bolt"
	"github.com/polykv/polykv/drivers/nats"
	"github.com/polykv/polykv/drivers/postgres"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/consul"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/etcd"
	"github.com/polykv/polykv/kv/inmemory"
)

var discard = slog.New(slog.DiscardHandler)

// Polykv opens a store through polykv, at its defaults.
func Polykv(t workload.Target) (workload.Store, error) {
	s := &polykv{}
	switch t.Backend {
	case "memory":
		shared := inmemory.NewStore()
		s.open = func() (driver.Store, error) { return shared.Open(), nil }
	case "etcd":
		cfg := etcd.DefaultConfig()
		cfg.Endpoints = t.Endpoints
		s.open = func() (driver.Store, error) { return etcd.Open(cfg, discard) }
	case "consul":
		cfg := consul.DefaultConfig()
		cfg.Address = t.Endpoints[0]
		s.open = func() (driver.Store, error) { return consul.Open(cfg, discard) }
	case "bolt":
		cfg, files := *bolt.NewConfig(), new(bolt.Files)
		cfg.Path = filepath.Join(t.Endpoints[0], "polykv.db")
		s.open = func() (driver.Store, error) { return files.Open(cfg) }
	case "nats":
		cfg := *nats.NewConfig()
		cfg.Servers = t.Endpoints
		s.open = func() (driver.Store, error) { return nats.Open(cfg, discard) }
	case "postgres":
		cfg := *postgres.NewConfig()
		cfg.Servers = t.Endpoints
		s.open = func() (driver.Store, error) { return postgres.Open(cfg, discard) }
	case "gossip":
		return openCluster(t)
	default:
		return nil, fmt.Errorf("no backend %q", t.Backend)
	}
	return s, nil
}

type polykv struct {
	open      func() (driver.Store, error)
	clients   []kv.Client
	elections []*coordination.Election
}

// Own implements workload.Follower.
func (c follower) Own(ctx context.Context, key string) (write func(value string) error, err error) {
	f := kv.Follow(ctx, c.Client, kv.KeyRange(key))
	if err := f.Ready(ctx); err != nil {
		return nil, err
	}
	versioned, err := kv.Versioned(c.Client)
	if err != nil {
		return nil, err
	}
	_, version, err := versioned.GetVersion(ctx, key)
	return func(value string) (err error) {
		if version, err = versioned.SwapVersion(ctx, key, version, value); err != nil {
			return err
		}
		return f.WaitFor(ctx, version)
	}, err
}

// Client implements workload.Store.
func (s *polykv) Client() (workload.Client, error) {
	store, err := s.open()
	if err != nil {
		return nil, err
	}
	c := kv.New(store, codec.String{}, nil)
	s.clients = append(s.clients, c)
	return follower{kv.Forward{Client: c}}, nil
}

// follower is a client that implements workload.Follower.
type follower struct{ kv.Forward }

// Follow implements workload.Follower.
func (c follower) Follow(ctx context.Context, prefix string) (get func(key string) any, err error) {
	f := kv.Follow(ctx, c.Client, kv.PrefixRange(prefix))
	if err := f.Ready(ctx); err != nil {
		return nil, err
	}
	return func(key string) any {
		value, _ := f.Get(key)
		return value
	}, nil
}

// Close implements workload.Store.
func (s *polykv) Close() error {
	return errors.Join(closeAll(s.elections), closeAll(s.clients))
}

func closeAll[C io.Closer](all []C) (err error) {
	for _, c := range all {
		err = errors.Join(err, c.Close())
	}
	return err
}
