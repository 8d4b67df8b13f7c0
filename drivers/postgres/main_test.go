//go:build linux

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/testserver"
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

// programs returns the folder of the newest PostgreSQL that is installed, or skips
// the test.
func programs(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		t.Skip("PostgreSQL is not installed; on Debian: apt-get install postgresql")
	}
	slices.Sort(found)
	return filepath.Dir(found[len(found)-1])
}

// credential is whom a server runs as, since it refuses to run as root; nil: as
// the test does.
func credential(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skip("PostgreSQL's user is missing; Debian's package makes it")
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// server is a PostgreSQL of the test's own, which can be killed and started again.
type server struct {
	bin, data string
	port      int
	as        *syscall.Credential
	ended     chan error // of the running process
	process   *os.Process
}

// start starts a server, which ends with the test.
func start(t testing.TB) *server {
	t.Helper()
	s := &server{bin: programs(t), as: credential(t)}
	folder, err := os.MkdirTemp("", "postgres") // t.TempDir is in one that others can't look into
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	s.data = filepath.Join(folder, "data")
	if err := errors.Join(s.initialize(), os.CopyFS(s.data, os.DirFS(template)), os.Chmod(s.data, 0o700), s.own(folder)); err != nil {
		t.Fatal(err)
	}
	ports, release, err := testserver.ReservePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	s.port = ports[0]
	t.Cleanup(func() { s.kill(); release() })
	if err := s.up(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// initialize makes the template, once.
func (s *server) initialize() (err error) {
	templateMu.Lock()
	defer templateMu.Unlock()
	if template != "" {
		return nil
	}
	folder, err := os.MkdirTemp("", "postgres")
	if err = errors.Join(err, s.own(folder)); err != nil {
		return err
	}
	template = folder
	if out, err := s.command("initdb", "-D", folder, "-U", "postgres", "--no-sync", "--auth=trust", "--locale=C", "-E", "UTF8").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// own gives a folder to the server's user.
func (s *server) own(folder string) error {
	if s.as == nil {
		return nil
	}
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(s.as.Uid), int(s.as.Gid)))
	})
}

func (s *server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// up starts the server and waits until it answers.
func (s *server) up(ctx context.Context) error {
	cmd := s.command("postgres", "-D", s.data, "-p", strconv.Itoa(s.port), "-h", "127.0.0.1", "-k", "",
		"-c", "fsync=off", "-c", "max_connections=500", "-c", "shared_buffers=16MB", "-c", "max_wal_senders=4")
	started, ended := make(chan error), make(chan error, 1)
	go func() { // the signal for orphans comes when the thread ends that started the child
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.process, s.ended = cmd.Process, ended
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := s.admin(ctx, "SELECT 1")
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("postgres ended: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill ends the server as a power failure would. Its children notice and end, too.
func (s *server) kill() {
	if s.process == nil {
		return
	}
	_ = s.process.Signal(syscall.SIGQUIT) // "immediate": without a checkpoint
	s.ended <- <-s.ended
}

func (s *server) restart(ctx context.Context) error {
	s.kill()
	return s.up(ctx)
}

// admin runs statements as the superuser.
func (s *server) admin(ctx context.Context, statements ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", s.addr()))
	if err != nil {
		return err
	}
	for _, sql := range statements {
		if _, e := conn.Exec(ctx, sql); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", sql, e))
		}
	}
	return errors.Join(err, conn.Close(ctx))
}

func (s *server) addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// config returns the configuration of clients of the server.
func (s *server) config() Config {
	cfg := *NewConfig()
	cfg.Servers = []string{s.addr()}
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
