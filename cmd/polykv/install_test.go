package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const (
	root    = "github.com/polykv/polykv"
	version = "v0.1.0" // what the modules of the command require of each other
)

// Once there are tags, "go install .../cmd/polykv@latest" works: the command is built here from its modules as a proxy
// would serve them, without the workspace.
func TestInstall(t *testing.T) {
	_ = os.Getenv("POLYKV_TREE") // set by make test, so that no result from before a change of these modules is taken
	proxy, scratch := t.TempDir(), t.TempDir()
	for _, below := range []string{"", "/cli", "/drivers/bolt", "/drivers/nats", "/drivers/postgres", "/cmd/polykv"} {
		publish(t, proxy, root+below, filepath.Join("../..", below))
	}
	goCommand := func(env []string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = scratch
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	cache := "file://" + filepath.ToSlash(goCommand(nil, "env", "GOMODCACHE")) + "/cache/download"
	env := []string{
		"GOWORK=off", "GOFLAGS=-modcacherw -trimpath", "GOBIN=" + scratch, "GOMODCACHE=" + filepath.Join(scratch, "modules"),
		"GOPROXY=file://" + filepath.ToSlash(proxy) + "," + cache + "," + goCommand(nil, "env", "GOPROXY"),
		"GONOSUMDB=" + root + "," + root + "/*",
	}
	goCommand(env, "install", root+"/cmd/polykv@"+version)
	out, err := exec.CommandContext(t.Context(), filepath.Join(scratch, "polykv"), "version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), version) {
		t.Errorf("the installed command says of its version: %v\n%s", err, out)
	}
}

// publish puts the module in a folder into a proxy's folder.
func publish(t *testing.T, proxy, path, folder string) {
	t.Helper()
	files := filepath.Join(proxy, path, "@v", version)
	if err := os.MkdirAll(filepath.Dir(files), 0o755); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	info := fmt.Sprintf(`{"Version":%q}`, version)
	list := filepath.Join(filepath.Dir(files), "list")
	for name, text := range map[string]string{files + ".info": info, files + ".mod": string(mod), list: version + "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	archive, err := os.Create(files + ".zip")
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if err := zip.CreateFromDir(archive, module.Version{Path: path, Version: version}, folder); err != nil {
		t.Fatal(err)
	}
}
