package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/polykv/polykv/cli/internal/demo"
	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/multi/migrate"
)

// stage is the two stores of a demo, and the migration between them.
type stage struct {
	app       *app
	config    *factory.Config // of the clients
	sides     [2]kv.Client    // as the operator sees them
	migration *migrate.Migration
}

// copySections fills the sections of drivers, and of the client, from another
// configuration of the same drivers.
func (a *app) copySections(to, from *factory.Config) {
	to.Client = from.Client
	for _, name := range a.drivers.Names() {
		reflect.ValueOf(to.Section(name)).Elem().Set(reflect.ValueOf(from.Section(name)).Elem())
	}
}

// startServers starts a server of each backend that has one, and points the
// configuration to them. stop is never nil.
func (a *app) startServers(ctx context.Context, backends ...string) (stop func() error, err error) {
	var clusters []*testserver.Cluster
	stop = func() (err error) {
		for _, c := range clusters {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	slices.Sort(backends)
	for _, backend := range slices.Compact(backends) {
		s := starterOf(backend)
		if s == nil {
			continue
		}
		fmt.Fprintf(a.stderr, "starting %s ...\n", backend)
		cluster, err := s.start(ctx, testserver.Options{Log: a.stderr})
		if err != nil {
			return stop, fmt.Errorf("--start-servers: %w", err)
		}
		clusters = append(clusters, cluster)
		s.use(a.config, cluster)
	}
	return stop, nil
}

// newStage opens both stores and makes the first one primary.
func (a *app) newStage(ctx context.Context, to string) (_ *stage, err error) {
	s := &stage{app: a, config: a.drivers.NewConfig()}
	s.config.Backend = "multi"
	m := &s.config.Multi
	m.Coordinated = true
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	var backends [2]migrate.Backend
	for i, side := range []struct {
		config  *factory.Config
		backend string
		prefix  string
	}{{m.Primary, a.config.Backend, "from/"}, {m.Secondary, to, "to/"}} {
		a.copySections(side.config, a.config)
		side.config.Backend, side.config.Prefix = side.backend, a.config.Prefix+side.prefix
		side.config.Name = side.backend
		if to == a.config.Backend {
			side.config.Name = fmt.Sprint(side.backend, " ", i+1)
		}
		client, err := factory.New(ctx, side.config, codec.Bytes{}, factory.Deps{Logger: a.logger()})
		if err != nil {
			return nil, err
		}
		s.sides[i] = client
		one := *a // the same, for one of the stores
		one.config = side.config
		if err := one.reach(ctx, client); err != nil {
			return nil, err
		}
		backends[i] = migrate.Backend{Name: side.config.Name, Client: client}
	}
	if s.migration, err = migrate.New(backends[0], backends[1], migrate.Options{AllowEmpty: true, AllowDifferences: true, AllowUnreachable: true}); err != nil {
		return nil, err
	}
	if _, err := s.migration.Start(ctx); err != nil {
		return nil, a.explainTrouble(err)
	}
	return s, nil
}

func (s *stage) close() (err error) {
	for _, c := range s.sides {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	return err
}

// open opens a client of both stores.
func (s *stage) open(ctx context.Context, observer kv.Observer) (kv.Client, error) {
	return factory.New(ctx, s.config, codec.String{}, factory.Deps{Logger: s.app.logger(), Observer: observer})
}

// describe names both stores, as far as they differ.
func (s *stage) describe() string {
	from, to := *s.app, *s.app
	from.config, to.config = s.config.Multi.Primary, s.config.Multi.Secondary
	if from.store() == to.store() {
		return from.store()
	}
	return from.store() + ", moving to " + to.store()
}

func (s *stage) move() *demo.Move {
	return &demo.Move{
		From: s.config.Multi.Primary.Name, To: s.config.Multi.Secondary.Name,
		Cutover: func(ctx context.Context) error {
			_, err := s.migration.Cutover(ctx)
			return err
		},
		Compare: s.compare,
	}
}

// compare compares the stores after the move.
func (s *stage) compare(ctx context.Context) (keys, different int, first string, err error) {
	var content [2]map[string]string
	for i, c := range s.sides {
		content[i] = map[string]string{}
		for e, err := range kv.Entries(ctx, c, "") {
			if err != nil {
				return 0, 0, "", err
			}
			content[i][e.Key] = fmt.Sprintf("%s", e.Value)
		}
	}
	for i := range content {
		for key, value := range content[i] {
			other, there := content[1-i][key]
			if i == 0 || !there {
				keys++
			}
			if !there || i == 0 && other != value {
				different++
				first = key
			}
		}
	}
	return keys, different, first, nil
}

// sweepTimeout bounds how long the stores may take to be emptied.
const sweepTimeout = 30 * time.Second

// sweep removes what is left in both stores: the records and what clients
// wrote beside them, and keys that were not mirrored.
func (s *stage) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	for _, c := range s.sides {
		raw, err := kv.Raw(c)
		if err != nil {
			return fmt.Errorf("%w: %w", demo.ErrLeftBehind, err)
		}
		for _, prefix := range []string{"", kv.ReservedSegment + "/"} {
			keys, err := raw.List(ctx, prefix)
			for _, key := range keys {
				err = errors.Join(err, raw.Delete(ctx, key))
			}
			if err != nil {
				return fmt.Errorf("%w: %w", demo.ErrLeftBehind, err)
			}
		}
	}
	return nil
}
