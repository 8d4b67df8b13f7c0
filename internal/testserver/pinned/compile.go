package pinned

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// rootModule is the module whose folder holds tools/.
const rootModule = "module github.com/polykv/polykv"

// compile builds the program beside file and then renames it, so that file is complete whenever it exists. root is
// the source tree, or empty.
func (t Tool) compile(ctx context.Context, root, file string, log io.Writer) error {
	goCommand, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("the go command is not on the PATH: %w", err)
	}
	scratch, err := os.MkdirTemp(filepath.Dir(file), "build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	module, mode, err := t.module(root, scratch)
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "compiling %s %s; this is done once and takes a minute to a few\n", t.Name, t.Version)
	began := time.Now()
	built := filepath.Join(scratch, filepath.Base(file))
	cmd := exec.CommandContext(ctx, goCommand, "build", "-mod="+mode, "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", built, t.Package)
	cmd.Dir = module
	// A workspace or a cross-compiling shell around us must not change what is built; without cgo no C compiler is
	// needed and the program runs on any libc.
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	cmd.WaitDelay = 5 * time.Second // compilers that outlive a cancelled go command hold its output open
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("go build %s: %w\n%s", t.Package, err, lastLines(output.String(), 15)), ctx.Err())
	}
	if err := os.Rename(built, file); err != nil {
		return err
	}
	fmt.Fprintf(log, "compiled %s %s in %s\n", t.Name, t.Version, time.Since(began).Round(time.Second))
	return nil
}

// module returns the folder of the module to build in, and go's -mod for it: the repository's own pin if this
// program has its source tree at hand, otherwise (it was installed by go install) a module in scratch that requires
// the same version, whose sums the checksum database vouches for.
func (t Tool) module(root, scratch string) (dir, mode string, err error) {
	if root != "" {
		return filepath.Join(root, filepath.FromSlash(t.dir)), "readonly", nil
	}
	text := fmt.Sprintf("module polykv.invalid/%s\n\ngo 1.26.0\n\nrequire %s %s\n", t.Name, t.Module, t.Version)
	return scratch, "mod", os.WriteFile(filepath.Join(scratch, "go.mod"), []byte(text), 0o644)
}

// sourceTree returns the root of the repository that this program was compiled from or is run in, or "". (The module
// as the proxy serves it is not the repository: it lacks the modules below it.)
func (t Tool) sourceTree() string {
	var starts []string
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) { // not absolute under -trimpath
		starts = append(starts, filepath.Dir(file))
	}
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	for _, dir := range starts {
		for ; ; dir = filepath.Dir(dir) {
			text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
			if first, _, _ := strings.Cut(string(text), "\n"); err == nil && strings.TrimSpace(first) == rootModule {
				if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(t.dir), "go.mod")); err == nil {
					return dir
				}
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return ""
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
