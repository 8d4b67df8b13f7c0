package multi_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/inmemory"
	"github.com/polykv/polykv/kv/multi"
	"github.com/polykv/polykv/kv/multi/internal/switchtest"
	"github.com/polykv/polykv/kv/multi/migrate"
)

func coordinatedConfig() multi.Config {
	cfg := multi.DefaultConfig()
	cfg.Coordinated = true
	cfg.FenceTimeout = 5 * time.Second
	return cfg
}

// fleet is two stores in memory under migration.
type fleet struct {
	first, second *inmemory.Store
	migration     *migrate.Migration
	admins        [2]kv.Client
	moves         bool // the primary may change
	moving        sync.Mutex
}

// newFleet makes two stores, of which the first is primary and the second
// standby.
func newFleet(t conformance.T) *fleet {
	f := &fleet{first: inmemory.NewStore(), second: inmemory.NewStore()}
	f.admins = [2]kv.Client{kv.New(f.first.Open(), codec.Bytes{}, nil), kv.New(f.second.Open(), codec.Bytes{}, nil)}
	t.Cleanup(func() {
		for _, c := range f.admins {
			if err := c.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	})
	f.migration = f.theirs(t)
	if _, err := f.migration.Start(t.Context()); err != nil {
		t.Fatalf("starting the migration: %v", err)
	}
	return f
}

func (f *fleet) backend(at int) migrate.Backend {
	return migrate.Backend{Name: [2]string{"first", "second"}[at], Client: f.admins[at]}
}

// theirs is the migration from the first store to the second, which goes on in
// spite of what its tests do to clients.
func (f *fleet) theirs(t conformance.T) *migrate.Migration {
	m, err := migrate.New(f.backend(0), f.backend(1), migrate.Options{
		AllowKeys: true, AllowNoClients: true, AllowEmpty: true, AllowDifferences: true, AllowMisconfigured: true, AllowUnreachable: true,
	})
	if err != nil {
		t.Fatalf("a migration: %v", err)
	}
	return m
}

// towards makes a store primary.
func (f *fleet) towards(ctx context.Context, t conformance.T, target int) error {
	command := f.theirs(t).Cutover
	if target == 0 {
		command = f.theirs(t).Rollback
	}
	_, err := command(ctx)
	return err
}

// open opens a client of both stores. Wrap, unless nil, lies between each
// store and the engine.
func (f *fleet) open(cfg multi.Config, c codec.Codec, o kv.Options, wrap func(at int, s driver.Store) driver.Store) (*multi.Client, error) {
	if wrap == nil {
		wrap = func(_ int, s driver.Store) driver.Store { return s }
	}
	second := o
	if !f.moves {
		second.Observer = nil // mirrors are not what users ask for
	}
	return multi.New(cfg, []multi.Backend{
		{Name: "first", Client: kv.New(wrap(0, f.first.Open()), c, &o)},
		{Name: "second", Client: kv.New(wrap(1, f.second.Open()), c, &second)},
	}, multi.WithLogger(o.Logger))
}

// userLine is a line past which polykv's writes of its own keys go. Its other
// requests for them count as attempts once the line has been cut: a client
// looks for the records as soon as it is opened.
type userLine struct {
	*conformance.StoreLine
	store     driver.Store
	wasCut    *atomic.Bool
	uncounted *atomic.Int64
	never     bool // they count
}

func (l userLine) Cut() {
	l.wasCut.Store(true)
	l.StoreLine.Cut()
}

func (l userLine) discount(key string) {
	if isOwn(key) && (l.never || !l.wasCut.Load()) {
		l.uncounted.Add(1)
	}
}

func isOwn(key string) bool { return strings.HasPrefix(key, kv.ReservedSegment) }

func (l userLine) Swap(ctx context.Context, s driver.Swap) (driver.Result, error) {
	if isOwn(s.Key) {
		return l.store.Swap(ctx, s)
	}
	return l.StoreLine.Swap(ctx, s)
}

func (l userLine) Get(ctx context.Context, r driver.GetRequest) (driver.Entry, error) {
	l.discount(r.Key)
	return l.StoreLine.Get(ctx, r)
}

func (l userLine) Scan(ctx context.Context, r driver.ScanRequest) (driver.Page, error) {
	l.discount(r.Prefix)
	return l.StoreLine.Scan(ctx, r)
}

func (l userLine) Watch(ctx context.Context, req driver.WatchRequest, emit func(driver.Event)) error {
	l.discount(req.Range.Key)
	return l.StoreLine.Watch(ctx, req, emit)
}

func (l userLine) Attempts() int { return l.StoreLine.Attempts() - int(l.uncounted.Load()) }

func TestConformanceCoordinated(t *testing.T) {
	conformance.Run(t, conformance.Harness{New: func(t conformance.T) conformance.Store {
		f := newFleet(t)
		return conformance.Store{
			Open: func(c codec.Codec, o kv.Options) (kv.Client, error) { return f.open(coordinatedConfig(), c, o, nil) },
			OpenLine: func(c codec.Codec, o kv.Options) (kv.Client, conformance.Line, error) {
				var line userLine
				client, err := f.open(coordinatedConfig(), c, o, func(at int, s driver.Store) driver.Store {
					if at == 1 {
						return s
					}
					line = userLine{
						StoreLine: conformance.Breakable(s), store: s, wasCut: new(atomic.Bool), uncounted: new(atomic.Int64),
						never: t.Name() == "K1-before-any-request", // which counts what its calls send
					}
					return line
				})
				return client, line, err
			},
			Plant: plantIn(f.first),
		}
	}})
}

// In the middle of each case the fleet is moved to the other store, and with
// more operations back again.
func TestConformanceAmidCutover(t *testing.T) {
	moves := switchtest.New(t, switchtest.UnmovedCoordinated)
	conformance.Run(t, conformance.Harness{Rules: switchtest.RulesCoordinated(), New: func(t conformance.T) conformance.Store {
		f := newFleet(t)
		f.moves = moves.HappenIn(t)
		c := moves.During(t, func(target int) error { return f.move(t, target) })
		return conformance.Store{
			Open: func(cdc codec.Codec, o kv.Options) (kv.Client, error) {
				cfg := coordinatedConfig()
				cfg.FenceTimeout = 20 * time.Second
				return f.open(cfg, cdc, o, func(_ int, s driver.Store) driver.Store { return switchtest.Trigger{Store: s, Countdown: c} })
			},
			Plant: plantIn(f.first, f.second),
		}
	}})
	moves.Report(t)
}

// move makes a store primary, one move at a time.
func (f *fleet) move(t conformance.T, target int) error {
	f.moving.Lock()
	defer f.moving.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := f.towards(ctx, t, target); err != nil {
		return fmt.Errorf("cutover: %w", err)
	}
	return nil
}
