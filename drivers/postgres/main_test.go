//go:build linux

package postgres

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite{m}) }

// suite removes at its end what all servers begin as.
type suite struct{ *testing.M }

func (s suite) Run() int {
	defer func() { _ = os.RemoveAll(template) }()
	return s.M.Run()
}

var (
	template   string // folder of a server that was never started; "" before the first
	templateMu sync.Mutex
)

// server is a PostgreSQL of the test's own.
type server struct{ *testserver.Postgres }

// start starts a server, which ends with the test.
func start(t testing.TB) *server {
	t.Helper()
	s := &server{servertest.Postgres(t)}
	if err := errors.Join(s.fromTemplate(), s.up(t.Context())); err != nil {
		t.Fatal(err)
	}
	return s
}

// fromTemplate makes the data of a server, the first time by initdb.
func (s *server) fromTemplate() (err error) {
	templateMu.Lock()
	defer templateMu.Unlock()
	if template == "" {
		if template, err = os.MkdirTemp("", "postgres"); err != nil {
			return err
		}
		return errors.Join(s.Init(), os.CopyFS(template, os.DirFS(s.Data)))
	}
	return errors.Join(os.CopyFS(s.Data, os.DirFS(template)), os.Chmod(s.Data, 0o700), s.Own(s.Data))
}

func (s *server) up(ctx context.Context) error {
	return s.Up(ctx, "fsync=off", "max_connections=500", "shared_buffers=16MB", "max_wal_senders=4")
}

func (s *server) restart(ctx context.Context) error {
	s.Kill()
	return s.up(ctx)
}

// config returns the configuration of clients of the server.
func (s *server) config() Config {
	cfg := *NewConfig()
	cfg.Servers = []string{s.Addr()}
	return cfg
}

// open returns a handle that ends with the test.
func open(t testing.TB, cfg Config) *store {
	t.Helper()
	s, err := Open(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.(*store)
}
