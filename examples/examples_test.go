// Package examples runs the programs below it as their users would: three processes
// each, on every backend that processes can share, stopped and killed.
package examples

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"

	// So that no result from before a change of what the programs are made of is taken.
	_ "github.com/polykv/polykv/kv/coordination"
	_ "github.com/polykv/polykv/kv/factory"
	"github.com/polykv/polykv/kv/memberlist"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 2 * time.Minute

// build builds an example and returns the program.
func build(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	out, err := exec.Command("go", "build", "-o", program, "./"+name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	source, err := os.ReadFile(filepath.Join(name, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), "\n"); n >= 80 {
		t.Errorf("%s has %d lines; an example is short", name, n)
	}
	return program
}

// backends returns the flags of processes that share a store.
func backends(t *testing.T, gossip bool) map[string][]string {
	t.Helper()
	all := map[string][]string{
		"etcd":   {"-kv.backend=etcd", "-kv.etcd.endpoints=" + servertest.Etcd(t, testserver.Options{NoFsync: true}).Endpoints()[0]},
		"consul": {"-kv.backend=consul", "-kv.consul.address=" + servertest.Consul(t, testserver.Options{}).Endpoints()[0]},
	}
	if gossip {
		cfg := memberlist.DefaultConfig()
		cfg.NodeName, cfg.ClusterLabel, cfg.BindAddress, cfg.BindPort = "test", "examples", "127.0.0.1", 0
		node, err := memberlist.Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = node.Close() })
		all["gossip"] = []string{
			"-kv.backend=memberlist", "-kv.memberlist.bind-address=127.0.0.1", "-kv.memberlist.bind-port=0",
			"-kv.memberlist.cluster-label=examples", "-kv.memberlist.join=" + node.Address(),
		}
	}
	return all
}

// process is a program that runs.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Writer
	read  sync.WaitGroup

	mu    sync.Mutex
	lines []string
}

func start(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program, args...)}
	p.cmd.Stderr = t.Output()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.read.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, lines.Text())
			p.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		p.read.Wait()
		_ = p.cmd.Wait()
	})
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lines) == 0 {
		return ""
	}
	return p.lines[len(p.lines)-1]
}

// says waits until the last line that p wrote is like that.
func (p *process) says(pattern string) {
	p.t.Helper()
	like := regexp.MustCompile("^(" + pattern + ")$")
	for deadline := time.Now().Add(patience); !like.MatchString(p.last()); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%v in vain: %s says %q, not %q", patience, p.cmd.Path, p.last(), pattern)
		}
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	program := build(t, "registry")
	for backend, flags := range backends(t, true) {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			run := func(id string) *process {
				args := append(flags, "-id="+id, "-address="+id+":80", "-ttl=10s")
				if backend == "gossip" {
					args = append(args, "-kv.memberlist.node-name="+id)
				}
				return start(t, program, args...)
			}
			a, b, c := run("a"), run("b"), run("c")
			for _, p := range []*process{a, b, c} {
				p.says(`\[{a a:80} {b b:80} {c c:80}\]`)
			}
			b.signal(syscall.SIGKILL)
			a.says(`\[{a a:80} {c c:80}\]`)
			c.signal(syscall.SIGSTOP)
			a.says(`\[{a a:80}\]`)
			c.signal(syscall.SIGCONT) // it joins again by itself
			a.says(`\[{a a:80} {c c:80}\]`)
			c.says(`\[{a a:80} {c c:80}\]`)
			c.signal(syscall.SIGTERM)
			a.says(`\[{a a:80}\]`)
		})
	}
}

func TestElection(t *testing.T) {
	t.Parallel()
	program := build(t, "election")
	for backend, flags := range backends(t, false) {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			run := func(id string) *process { return start(t, program, append(flags, "-id="+id, "-ttl=6s")...) }
			a := run("a")
			a.says("a leads, term 1")
			b := run("b")
			a.signal(syscall.SIGSTOP)
			b.says("b leads, term 2")
			a.signal(syscall.SIGCONT)
			a.says("a leads no more: .*(fenced|lost).*")
			b.signal(syscall.SIGKILL)
			a.says("a leads, term 3")
			c := run("c")
			a.signal(syscall.SIGTERM) // it resigns
			c.says("c leads, term 4")
		})
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	program := build(t, "flags")
	for backend, flags := range backends(t, true) {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			var all []*process
			for i := range 3 {
				args := flags
				if backend == "gossip" {
					args = append(args[:len(args):len(args)], fmt.Sprintf("-kv.memberlist.node-name=%d", i))
				}
				all = append(all, start(t, program, args...))
			}
			ask := func(p *process, line, want string) {
				t.Helper()
				for deadline := time.Now().Add(patience); p.last() != want; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("asked for %q, it says %q", line, p.last())
					}
					if _, err := fmt.Fprintln(p.stdin, line); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, p := range all {
				ask(p, "dark", "dark false")
			}
			ask(all[0], "dark on", "dark true")
			for _, p := range all {
				ask(p, "dark", "dark true")
			}
			all[0].signal(syscall.SIGKILL)
			all[1].signal(syscall.SIGSTOP)
			ask(all[2], "dark off", "dark false")
			all[1].signal(syscall.SIGCONT)
			ask(all[1], "dark", "dark false")
		})
	}
}
