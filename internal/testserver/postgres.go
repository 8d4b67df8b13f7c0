package testserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// ErrNoPostgres is the error of NewPostgres where there is none.
var ErrNoPostgres = errors.New("PostgreSQL is not installed; on Debian: apt-get install postgresql")

// Postgres is a server of the newest PostgreSQL that Debian's packages installed. It can be killed and started again. Its
// user postgres needs no password.
type Postgres struct {
	Data string // the folder of its data

	bin      string
	uid, gid int // as whom it runs, since it refuses to run as root; 0: as its starter
	port     int
	release  func() // gives the port back
	process  *process
}

// NewPostgres returns a server that has no data yet: Init makes some. Close removes it.
func NewPostgres() (*Postgres, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return nil, errors.Join(ErrNoPostgres, err)
	}
	slices.Sort(found)
	s := &Postgres{bin: filepath.Dir(found[len(found)-1])}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoPostgres, err)
		}
		s.uid, _ = strconv.Atoi(u.Uid) // numbers, where root has 0
		s.gid, _ = strconv.Atoi(u.Gid)
	}
	folder, err := os.MkdirTemp("", "postgres")
	if err != nil {
		return nil, err
	}
	s.Data = filepath.Join(folder, "data")
	ports, release, err := ReservePorts(1)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	s.port, s.release = ports[0], release
	if err := s.Own(folder); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Init makes the folder of data.
func (s *Postgres) Init() error {
	return s.Run(context.Background(), "initdb", "-D", s.Data, "-U", "postgres", "--no-sync", "--auth=trust", "--locale=C", "-E", "UTF8")
}

// Own gives a folder with all that is in it to the user as whom the server runs.
func (s *Postgres) Own(folder string) error {
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if s.uid == 0 {
			return err
		}
		return errors.Join(err, os.Lchown(path, s.uid, s.gid))
	})
}

// Run runs one of PostgreSQL's programs.
func (s *Postgres) Run(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...)
	cmd.Dir, cmd.SysProcAttr = "/", s.attributes()
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return err
}

func (s *Postgres) attributes() *syscall.SysProcAttr {
	a := childAttributes()
	if s.uid != 0 {
		runAs(a, s.uid, s.gid)
	}
	return a
}

// Up starts the server, with settings as name=value, and waits until it answers.
func (s *Postgres) Up(ctx context.Context, settings ...string) (err error) {
	args := []string{"-D", s.Data, "-p", strconv.Itoa(s.port), "-h", host, "-k", ""}
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}
	if s.process, err = startProcess(filepath.Join(s.bin, "postgres"), args, "/", os.DevNull, s.attributes()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if err = s.SQL(ctx, "SELECT 1"); err == nil || ctx.Err() != nil || !s.process.running() {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Kill ends the server as a power failure would. Its children notice and end, too.
func (s *Postgres) Kill() {
	if s.process != nil {
		_ = s.process.cmd.Process.Signal(syscall.SIGQUIT) // "immediate": without a checkpoint
		<-s.process.exited
	}
}

// Close ends the server and removes its data.
func (s *Postgres) Close() error {
	s.Kill()
	s.release()
	return os.RemoveAll(filepath.Dir(s.Data))
}

// SQL runs statements as the superuser, each in a transaction of its own.
func (s *Postgres) SQL(ctx context.Context, statements ...string) error {
	args := []string{"-Xq", "-d", "postgres://postgres@" + s.Addr() + "/postgres?sslmode=disable", "-v", "ON_ERROR_STOP=1"}
	for _, sql := range statements {
		args = append(args, "-c", sql)
	}
	return s.Run(ctx, "psql", args...)
}

// Addr returns the server's host:port.
func (s *Postgres) Addr() string { return address(s.port) }
