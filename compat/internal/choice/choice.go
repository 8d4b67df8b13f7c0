// Package choice tells whether a program that uses polykv beside a host is
// built with the versions that the host chooses.
package choice

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is one of a build list.
type module struct {
	Path    string
	Version string
	Replace *module
}

// String is the version, and what stands in its place.
func (m module) String() string {
	if m.Replace != nil {
		return m.Version + " => " + m.Replace.Path + " " + m.Replace.Version
	}
	return m.Version
}

// Check fails if polykv raises a version that a program would have with the
// host alone. It is called from the main module of a program with both: host
// are the paths of the modules that are required for the host's sake, and
// counts says which modules are compared (nil: all).
func Check(t *testing.T, host []string, counts func(path string) bool) {
	t.Helper()
	dir := hostAlone(t, host)
	alone, both := list(t, dir), list(t, ".")
	if len(alone) < len(host) {
		t.Fatalf("the host's own build list has only %d modules", len(alone))
	}
	compared := 0
	for path, want := range alone {
		if path == "scratch" || counts != nil && !counts(path) {
			continue
		}
		got, ok := both[path]
		switch {
		case !ok:
			continue // the program links less of the host than a program may
		case got.String() != want.String():
			t.Errorf("%s: the host chooses %s, beside polykv it is %s", path, want, got)
		}
		compared++
	}
	if compared < len(host) {
		t.Fatalf("only %d modules were compared", compared)
	}
	t.Logf("%d modules have the versions that the host chooses", compared)
}

// hostAlone makes a module that requires the host only, under the same
// replacements.
func hostAlone(t *testing.T, host []string) string {
	t.Helper()
	var mod struct {
		Require []module
		Replace []struct{ Old module }
	}
	if err := json.Unmarshal(run(t, ".", "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	edit := []string{"mod", "edit", "-print", "-module=scratch"}
	required := 0
	for _, r := range mod.Require {
		if slices.Contains(host, r.Path) {
			required++
		} else {
			edit = append(edit, "-droprequire="+r.Path)
		}
	}
	if required != len(host) {
		t.Fatalf("go.mod requires %d of %q", required, host)
	}
	for _, r := range mod.Replace {
		if strings.HasPrefix(r.Old.Path, "github.com/polykv/polykv") {
			edit = append(edit, "-dropreplace="+r.Old.Path)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), run(t, ".", edit...), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// list returns the build list of the module in dir.
func list(t *testing.T, dir string) map[string]module {
	t.Helper()
	modules := map[string]module{}
	decoder := json.NewDecoder(strings.NewReader(string(run(t, dir, "list", "-m", "-json", "all"))))
	for decoder.More() {
		var m module
		if err := decoder.Decode(&m); err != nil {
			t.Fatal(err)
		}
		modules[m.Path] = m
	}
	return modules
}

// run is go in dir. The list of the host alone needs no checksums, since only
// versions are looked at.
func run(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if dir != "." {
		cmd.Env = append(cmd.Env, "GOFLAGS=-mod=mod", "GONOSUMDB=*", "GONOSUMCHECK=1", "GOSUMDB=off")
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}
