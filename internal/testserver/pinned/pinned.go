// Package pinned provides the outside programs that polykv is tested and demonstrated with, etcd and Consul, and
// the linter it is checked with, each at one version.
//
// A program is compiled from its Go module, which asks for nothing but a Go toolchain and the module proxy, and is
// kept in the user's cache folder. The modules under tools/ pin its version and, through their go.sum, every byte
// that goes into it.
package pinned

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// A Tool is a program of one version.
type Tool struct {
	Name    string // of the program
	Module  string
	Version string
	Package string // the main package
	Env     string // a variable that names a program to use instead; empty: there is none
	dir     string // below the repository's root: the module that pins it
}

// Etcd is the etcd server.
func Etcd() Tool {
	const module = "go.etcd.io/etcd/server/v3"
	return Tool{Name: "etcd", Module: module, Version: "v3.7.3", Package: module, Env: "POLYKV_ETCD", dir: "tools/etcd"}
}

// Consul is the Consul agent.
func Consul() Tool {
	const module = "github.com/hashicorp/consul"
	return Tool{Name: "consul", Module: module, Version: "v1.13.9", Package: module, Env: "POLYKV_CONSUL", dir: "tools/consul"}
}

// Lint is golangci-lint with its formatters.
func Lint() Tool {
	const module = "github.com/golangci/golangci-lint/v2"
	return Tool{
		Name: "golangci-lint", Module: module, Version: "v2.15.0",
		Package: module + "/cmd/golangci-lint", Env: "POLYKV_LINT", dir: "tools/lint",
	}
}

// All returns every tool.
func All() []Tool { return []Tool{Etcd(), Consul(), Lint()} }

// CacheDir returns the folder that holds the compiled programs.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder to keep compiled servers in: %w", err)
	}
	return filepath.Join(dir, "polykv", "servers"), nil
}

// Path returns the program's file: the one that the variable t.Env names, or else the compiled one, which it
// compiles first if this user has never had it. It may be called by any number of processes at once; one compiles,
// the others wait. What takes long is announced on log, which may be nil.
func (t Tool) Path(ctx context.Context, log io.Writer) (string, error) {
	if file := os.Getenv(t.Env); t.Env != "" && file != "" {
		if err := executable(file); err != nil {
			return "", fmt.Errorf("%s: %w", t.Env, err)
		}
		return file, nil
	}
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	file := filepath.Join(cache, t.fileName())
	if executable(file) == nil {
		return file, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	if log == nil {
		log = io.Discard
	}
	if err := t.compileOnce(ctx, file, log); err != nil {
		return "", t.explain(err)
	}
	return file, nil
}

// fileName carries everything that makes one compiled program differ from another.
func (t Tool) fileName() string {
	toolchain := strings.NewReplacer(" ", "_", "/", "_").Replace(runtime.Version())
	return strings.Join([]string{t.Name, t.Version, toolchain, runtime.GOOS, runtime.GOARCH}, "-") + exeSuffix()
}

func (t Tool) compileOnce(ctx context.Context, file string, log io.Writer) error {
	lock := flock.New(filepath.Join(filepath.Dir(file), t.Name+".lock"))
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); err != nil {
		return fmt.Errorf("wait for another process that compiles %s: %w", t.Name, err)
	}
	defer func() { _ = lock.Unlock() }() // the kernel drops it with the file in any case
	if executable(file) == nil {
		return nil // somebody else compiled it while we waited for the lock
	}
	return t.compile(ctx, t.sourceTree(), file, log)
}

func (t Tool) explain(err error) error {
	hint := "it is compiled from source once, which needs the Go toolchain and access to a Go module proxy"
	if t.Env != "" {
		hint += fmt.Sprintf("; set %s to an installed %s to use that one instead", t.Env, t.Name)
	}
	return fmt.Errorf("no %s %s: %w (%s)", t.Name, t.Version, err, hint)
}

func executable(file string) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", file)
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable", file)
	}
	return nil
}

func exeSuffix() string {
	if runtime.GOOS == "windows" {
		return ".exe"
	}
	return ""
}

// Clean removes every compiled program.
func Clean() error {
	cache, err := CacheDir()
	if err != nil {
		return err
	}
	return os.RemoveAll(cache)
}

// ByName returns the tool of that name.
func ByName(name string) (Tool, error) {
	var known []string
	for _, t := range All() {
		if t.Name == name {
			return t, nil
		}
		known = append(known, t.Name)
	}
	return Tool{}, errors.New("unknown tool " + name + "; there are " + strings.Join(known, ", "))
}
