package cli_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/cli"
	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/factory"
)

var (
	plain   = servertest.SharedEtcd(testserver.Options{NoFsync: true})
	secured = servertest.SharedEtcd(testserver.Options{NoFsync: true, Auth: true, ClientAuth: true})
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(servertest.Main(m, plain, secured), goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(programDir)
		os.Exit(code)
	}))
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command with this text as stdin.
func run(t testing.TB, stdin string, args ...string) result {
	t.Helper()
	return runWith(t.Context(), factory.Builtin(), strings.NewReader(stdin), args...)
}

func runWith(ctx context.Context, drivers factory.Drivers, stdin io.Reader, args ...string) result {
	var stdout, stderr output
	code := cli.Run(ctx, drivers, args, stdin, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// runInto is runWith whose stdout can be read meanwhile.
func runInto(ctx context.Context, stdout io.Writer, args ...string) int {
	return cli.Run(ctx, factory.Builtin(), args, strings.NewReader(""), stdout, io.Discard)
}

// output is a buffer that can be read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// waitFor waits until o has the text.
func (o *output) waitFor(t testing.TB, text string) {
	t.Helper()
	o.waitUntil(t, text, func(all string) bool { return strings.Contains(all, text) })
}

// waitUntil waits until all of o is as it should be.
func (o *output) waitUntil(t testing.TB, what string, cond func(text string) bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond(o.String()) {
		if time.Now().After(deadline) {
			t.Fatalf("%q did not come; there is only\n%s", what, o.String())
		}
		time.Sleep(time.Millisecond)
	}
}

var progressLine = regexp.MustCompile(`(?m)^\w+: [\d,]+( of [\d,]+)? keys, .*\n`)

// want checks the exit code and parts of the two outputs. An empty part means
// that there must be nothing.
func (r result) want(t testing.TB, code int, stdout, stderr string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	if r.stdout != stdout && (stdout == "" || !strings.Contains(r.stdout, stdout)) {
		t.Errorf("stdout is %q, want %q", r.stdout, stdout)
	}
	if stderr == "" {
		r.stderr = progressLine.ReplaceAllString(r.stderr, "") // which a busy machine has time for
	}
	if r.stderr != stderr && (stderr == "" || !strings.Contains(r.stderr, stderr)) {
		t.Errorf("stderr is %q, want %q", r.stderr, stderr)
	}
	if t.Failed() {
		t.Logf("stdout:\n%s\nstderr:\n%s", r.stdout, r.stderr)
	}
}

// onEtcd returns flags that lead to the plain server, below a prefix that is
// the test's own.
func onEtcd(t testing.TB, args ...string) []string {
	t.Helper()
	endpoints := strings.Join(plain.Get(t).Endpoints(), ",")
	return append([]string{"--backend=etcd", "--etcd.endpoints=" + endpoints, "--prefix=" + t.Name() + "/"}, args...)
}

// inMemory returns flags that lead to a store in memory that lasts as long as
// the test, and a client of it.
func inMemory(t testing.TB) ([]string, kv.Client) {
	t.Helper()
	cfg := factory.NewConfig()
	cfg.Backend, cfg.InMemory.Name = "inmemory", t.Name()
	client, err := factory.New(t.Context(), cfg, codec.Bytes{}, factory.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return []string{"--backend=inmemory", "--inmemory.name=" + t.Name()}, client
}

func writeFile(t testing.TB, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
