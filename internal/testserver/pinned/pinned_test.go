package pinned

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func repository(t *testing.T) string {
	t.Helper()
	root := Etcd().sourceTree()
	if root == "" {
		t.Fatal("the source tree was not found from within it")
	}
	return root
}

// TestVersions holds the versions in the code, which name the cached files and serve installed programs, to those
// in tools/, which are what gets compiled.
func TestVersions(t *testing.T) {
	for _, tool := range All() {
		text, err := os.ReadFile(filepath.Join(repository(t), tool.dir, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if want := "\t" + tool.Module + " " + tool.Version + " "; !strings.Contains(string(text), want) {
			t.Errorf("%s/go.mod doesn't require %s", tool.dir, strings.TrimSpace(want))
		}
	}
}

// probe is a tool that compiles in a moment, with a cache folder of its own.
func probe(t *testing.T) Tool {
	t.Helper()
	for _, name := range []string{"GOCACHE", "GOPATH", "GOMODCACHE", "GOENV"} {
		value, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(name, strings.TrimSpace(string(value))) // else it would move with the cache folder
	}
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	if runtime.GOOS == "darwin" {
		t.Setenv("HOME", cache)
	}
	return Tool{
		Name: "probe", Module: "github.com/polykv/polykv", Version: "v0.0.0",
		Package: "github.com/polykv/polykv/internal/testserver/pinned/build", Env: "POLYKV_PROBE", dir: ".",
	}
}

func TestPathCompilesOnce(t *testing.T) {
	tool := probe(t)
	const callers = 4
	logs := make([]bytes.Buffer, callers)
	files := make([]string, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			var err error
			if files[i], err = tool.Path(context.Background(), &logs[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	compiled := 0
	for i := range callers {
		compiled += strings.Count(logs[i].String(), "compiled probe")
		if files[i] != files[0] {
			t.Errorf("two callers got two programs: %s and %s", files[0], files[i])
		}
	}
	if compiled != 1 {
		t.Errorf("compiled %d times; want once", compiled)
	}
	if out, err := exec.CommandContext(t.Context(), files[0], "nonsense").CombinedOutput(); !strings.Contains(string(out), "unknown tool nonsense") {
		t.Errorf("the compiled program said %q (%v)", out, err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(files[0]), "build-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if err := Clean(); err != nil {
		t.Fatal(err)
	}
	if err := executable(files[0]); err == nil {
		t.Error("Clean left the program")
	}
}

// TestWithoutSourceTree compiles as an installed program does, by version alone.
func TestWithoutSourceTree(t *testing.T) {
	tool := Tool{
		Name: "protoc-gen-go", Module: "google.golang.org/protobuf", Version: "v1.36.12",
		Package: "google.golang.org/protobuf/cmd/protoc-gen-go",
	}
	file := filepath.Join(t.TempDir(), "program")
	if err := tool.compile(t.Context(), "", file, t.Output()); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), file, "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), tool.Version) {
		t.Errorf("--version said %q (%v); want %s", out, err, tool.Version)
	}
}

func TestPathFromEnvironment(t *testing.T) {
	tool := probe(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := []struct{ name, file, want string }{
		{"absent", filepath.Join(t.TempDir(), "absent"), "no such file"},
		{"folder", t.TempDir(), "not a file"},
		{"not executable", plain, "not executable"},
	}
	for _, test := range bad {
		t.Run(test.name, func(t *testing.T) {
			if runtime.GOOS == "windows" {
				test.want = ""
			}
			t.Setenv(tool.Env, test.file)
			_, err := tool.Path(t.Context(), nil)
			if err == nil || !strings.Contains(err.Error(), tool.Env) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v; want an error that names %s and says %q", err, tool.Env, test.want)
			}
		})
	}
	if err := os.Chmod(plain, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv(tool.Env, plain)
	if file, err := tool.Path(t.Context(), nil); file != plain || err != nil {
		t.Errorf("got %q, %v; want the program that %s names", file, err, tool.Env)
	}
}

// TestErrors checks that who can't compile is told what to do.
func TestErrors(t *testing.T) {
	tool := probe(t)
	check := func(what string, err error, want ...string) {
		t.Helper()
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: got %v; want an error that says %q", what, err, w)
			}
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := tool.Path(cancelled, nil)
	check("cancelled", err, "context canceled")

	broken := tool
	broken.Package += "/absent"
	_, err = broken.Path(t.Context(), nil)
	check("no such package", err, "go build", "/absent", tool.Env)

	t.Setenv("PATH", t.TempDir())
	_, err = tool.Path(t.Context(), nil)
	check("no go command", err, "PATH", "Go toolchain", tool.Env)
}
