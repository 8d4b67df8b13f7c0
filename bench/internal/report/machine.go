package report

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/polykv/polykv/internal/testserver/pinned"
)

// Describe notes the machine and the versions of what is measured.
func (r *Results) Describe(ctx context.Context, dir string) error {
	r.Machine = Machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), Cores: runtime.NumCPU(),
		Processor: field("/proc/cpuinfo", "model name"), MemoryGiB: memory(),
	}
	r.Versions = []Version{
		{"etcd", pinned.Etcd().Version},
		{"Consul", pinned.Consul().Version},
	}
	for _, m := range []struct{ name, folder, module string }{
		{"dskit", "contestants/dskit", "github.com/grafana/dskit"},
		{"Cortex", "contestants/cortex", "github.com/cortexproject/cortex"},
		{"etcd's client", ".", "go.etcd.io/etcd/client/v3"},
		{"etcd's client in dskit", "contestants/dskit", "go.etcd.io/etcd/client/v3"},
		{"Consul's client", ".", "github.com/hashicorp/consul/api"},
		{"Consul's client in dskit", "contestants/dskit", "github.com/hashicorp/consul/api"},
		{"bbolt", ".", "go.etcd.io/bbolt"},
		{"NATS", ".", "github.com/nats-io/nats-server/v2"},
		{"nats.go", ".", "github.com/nats-io/nats.go"},
		{"pgx", ".", "github.com/jackc/pgx/v5"},
	} {
		cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", m.module)
		cmd.Dir = filepath.Join(dir, m.folder)
		if m.folder != "." {
			cmd.Env = append(os.Environ(), "GOWORK=off") // contestants are not of the workspace
		}
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("the version of %s: %w", m.module, err)
		}
		r.Versions = append(r.Versions, Version{m.name, strings.TrimSpace(string(out))})
	}
	return nil
}

// field returns a value of a file such as Linux has under /proc, or "".
func field(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return "" // not Linux
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// memory returns the machine's memory in GiB, or 0 if it can't be told.
func memory() int {
	kib, err := strconv.Atoi(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"))
	if err != nil {
		return 0
	}
	return (kib + 1<<19) >> 20
}
