package testserver

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// sockets returns those that this process has open.
func sockets(t *testing.T) map[string]bool {
	t.Helper()
	const dir = "/proc/self/fd"
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := map[string]bool{}
	for _, f := range files {
		if to, _ := os.Readlink(filepath.Join(dir, f.Name())); strings.HasPrefix(to, "socket:") {
			open[to] = true
		}
	}
	return open
}

// A server that can't be made keeps neither its folder nor its port.
func TestPostgresThatCannotBeMade(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root runs a server as somebody else")
	}
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o711), os.Chmod(dir, 0o777)); err != nil { //nolint:gosec // for anybody
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	before := sockets(t)
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		const nobody = 65534   // who may give away no files
		err := syscall.Setfsuid(nobody)
		if err == nil {
			_, err = NewPostgres()
		}
		made <- err
	}()
	err := <-made
	if errors.Is(err, ErrNoPostgres) {
		t.Skip(err)
	}
	left, readErr := os.ReadDir(dir)
	after := sockets(t)
	maps.DeleteFunc(after, func(s string, _ bool) bool { return before[s] })
	if !errors.Is(err, syscall.EPERM) || readErr != nil || len(left)+len(after) > 0 {
		t.Errorf("%v; left are %v, %v (%v)", err, left, after, readErr)
	}
}
