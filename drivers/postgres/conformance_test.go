//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/conformance"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/driver"
)

func TestConformance(t *testing.T) { conformance.Run(t, harness(t, 4).Declared("postgres")) }

// harness has n servers. A case has one for itself, and a new table.
func harness(t testing.TB, n int) conformance.Harness {
	t.Helper()
	free := make(chan *server, n)
	for range n {
		free <- start(t)
	}
	var tables atomic.Int64
	return conformance.Harness{Parallel: n, New: func(t conformance.T) conformance.Store {
		s := <-free
		t.Cleanup(func() { free <- s })
		table := fmt.Sprint("case", tables.Add(1))
		openAt := func(addr string, log *slog.Logger) (driver.Store, error) {
			cfg := s.config()
			cfg.Table, cfg.Servers = table, []string{addr}
			return Open(cfg, log)
		}
		store := conformance.Driver(func(conformance.T) conformance.Opener {
			return func() (driver.Store, error) { return openAt(s.Addr(), nil) }
		}).New(t)
		store.OpenLine = func(c codec.Codec, o kv.Options) (kv.Client, conformance.Line, error) {
			return drivertest.OpenLine(s.Addr(), "postgres", openAt, c, o)
		}
		store.Restart, store.Snapshot, store.Leases = s.restart, s.snapshot, true
		store.Compact = func(ctx context.Context) error {
			return s.SQL(ctx, "UPDATE "+table+" SET write = version WHERE key = ''", "DELETE FROM "+table+" WHERE removed AND key <> ''")
		}
		return store
	}}
}

// snapshot copies the folder of a server that is down.
func (s *server) snapshot(ctx context.Context) (restore func(context.Context) error, err error) {
	saved, err := os.MkdirTemp("", "backup")
	if err != nil {
		return nil, err
	}
	copyTo := func(ctx context.Context, to, from string) error {
		s.Kill()
		return errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from)), os.Chmod(to, 0o700), s.Own(to), s.up(ctx))
	}
	return func(ctx context.Context) error {
		return errors.Join(copyTo(ctx, s.Data, saved), os.RemoveAll(saved))
	}, copyTo(ctx, saved, s.Data)
}
