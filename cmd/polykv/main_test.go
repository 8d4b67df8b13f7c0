package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/drivers/bolt"
	"github.com/polykv/polykv/internal/testserver/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs one command as a process would, with drivers of its own, and
// returns what it printed.
func run(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	all, err := drivers()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if got := cli.Run(t.Context(), all, args, strings.NewReader(""), &out, &errs); got != code {
		t.Errorf("%v: exit code %d, want %d; stderr: %s", args, got, code, &errs)
	}
	return out.String(), errs.String()
}

func TestCommandLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data.db")
	here := func(args ...string) []string { return append(args, "--backend=bolt", "--bolt.path="+path) }

	run(t, 0, here("put", "config/color", "blue")...)
	if out, _ := run(t, 0, here("get", "config/color")...); out != "blue" {
		t.Errorf("get in another run prints %q", out)
	}
	if out, _ := run(t, 0, here("list")...); out != "config/color\n" {
		t.Errorf("list prints %q", out)
	}
	run(t, 0, here("delete", "config/color")...)
	run(t, 1, here("get", "config/color")...)
	if out, errs := run(t, 0, here("demo", "--duration=100ms")...); !strings.Contains(out, "demo on bolt") {
		t.Errorf("demo prints %q, %q", out, errs)
	}
	if out, _ := run(t, 0, "version"); !strings.Contains(out, "go.etcd.io/bbolt v") {
		t.Errorf("version prints %q", out)
	}
}

// A file that can't be opened is a failure, which may pass, and no wrong use.
func TestFileThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	inUse := filepath.Join(dir, "data.db")
	var files bolt.Files // as of another process: its lock is the file's
	store, err := files.Open(bolt.Config{Path: inUse, Timeout: time.Second, MaxValueSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	sides := filepath.Join(dir, "polykv.yaml")
	if err := os.WriteFile(sides, []byte("backend: multi\nmulti:\n  primary: {backend: inmemory}\n  secondary: {backend: bolt, bolt: {path: "+garbage+"}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"--backend=bolt --bolt.timeout=1ms --bolt.path=" + inUse, "polykv: bolt.path: " + inUse + " is in use by another process"},
		{"--backend=bolt --bolt.path=" + dir, "polykv: bolt.path: " + dir + ": "},
		{"--backend=bolt --bolt.path=" + garbage, "polykv: bolt.path: " + garbage + ": "},
		{"--backend=bolt --bolt.path=/nowhere/x", "polykv: bolt.path: /nowhere/x: open /nowhere/x: no such file or directory"},
		{"--config=" + sides, "polykv: multi.secondary.bolt.path: " + garbage + ": "},
	} {
		if _, errs := run(t, 3, append(strings.Fields(c.args), "list")...); !strings.HasPrefix(errs, c.want) {
			t.Errorf("%s: stderr is %q, want %q", c.args, errs, c.want)
		}
	}
	if _, errs := run(t, 3, "migrate", "status", "--config="+sides); !strings.Contains(errs, garbage) {
		t.Errorf("migrate: stderr is %q", errs)
	}
}

func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "polykv.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data.db")
	write("backend: bolt\nbolt:\n  path: " + data + "\n  timeout: 2s\n  no_sync: true\n")
	run(t, 0, "put", "k", "v", "--config", file)
	run(t, 0, "get", "k", "--config", file)

	for _, c := range []struct{ text, want string }{
		{"backend: bolt\nbolt:\n  pat: x\n", `line 3: bolt.pat: unknown field, did you mean "path"?`},
		{"backend: bolt\nbolt:\n  path: x\n  timeout: soon\n", `line 4: bolt.timeout: "soon" is not a duration`},
		{"backend: bolt\n", "bolt.path: name the file"},
		{"backend: bolt\nbolt: {path: x, max_value_size: -1}\n", "bolt.max_value_size: -1: it must be from 1 to"},
		{"backend: bolt\nbolt: {path: x}\nbolt: {path: twice}\n", "line 3: bolt"},
		{"backend: nats\nnats: {bucket: a.b}\n", `nats.bucket: "a.b" is not allowed`},
		{"backend: postgres\npostgres: {table: A}\n", `postgres.table: "A" is not allowed`},
	} {
		write(c.text)
		if _, errs := run(t, 2, "list", "--config", file); !strings.Contains(errs, c.want) {
			t.Errorf("%q: stderr is %q, want %q", c.text, errs, c.want)
		}
	}
}

// A password that is refused is a failure, and said to be one of the credentials.
func TestWrongPassword(t *testing.T) {
	for backend, start := range map[string]func(*testing.T) (addr string){"nats": startNATS, "postgres": startPostgres} {
		t.Run(backend, func(t *testing.T) {
			args := []string{"--backend=" + backend, "--" + backend + ".servers=" + start(t), "--" + backend + ".username=app"}
			run(t, 0, append(args, "--"+backend+".password=right", "put", "k", "v")...)
			run(t, 1, append(args, "--"+backend+".password=right", "get", "absent")...)
			for _, command := range [][]string{{"get", "k"}, {"put", "k", "v"}, {"delete", "k"}, {"list"}, {"watch", "k"}} {
				out, errs := run(t, 3, append(append(args, "--"+backend+".password=wrong"), command...)...)
				if out != "" || !strings.Contains(errs, "permission denied") || !strings.Contains(errs, "check the credentials in --"+backend+".*") || strings.Contains(errs, "wrong") {
					t.Errorf("%v: stdout is %q, stderr %q", command, out, errs)
				}
			}
		})
	}
}

func startNATS(t *testing.T) string {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Username: "app", Password: "right",
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("NATS does not start")
	}
	return s.Addr().String()
}

func startPostgres(t *testing.T) string {
	s := servertest.Postgres(t)
	if err := errors.Join(s.Init(), s.Up(t.Context())); err != nil {
		t.Fatal(err)
	}
	hba := "host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	err := errors.Join(os.WriteFile(filepath.Join(s.Data, "pg_hba.conf"), []byte(hba), 0o600),
		s.SQL(t.Context(), "CREATE ROLE app SUPERUSER LOGIN PASSWORD 'right'", "SELECT pg_reload_conf()"))
	if err != nil {
		t.Fatal(err)
	}
	return s.Addr()
}
