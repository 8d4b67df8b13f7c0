//go:build unix

package memberlist

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
)

// TestStoppedProcess stops a node that is a process of its own (SIGSTOP): its
// kernel still takes connections and data, and nothing answers. The others hear
// from each other as before; when it goes on, it catches up.
func TestStoppedProcess(t *testing.T) {
	const size = 8
	nodes := startNodes(t, size, nil, func(cfg *Config) { *cfg = withJoin(stoppableConfig(cfg.NodeName), cfg.Join) })
	process := startChild(t, nodes[0].Address())
	var clients []kv.Client
	for _, n := range nodes {
		awaitPeerCount(t, n, size)
		clients = append(clients, clientOf(t, n, codec.String{}))
	}
	seen := func(key string, value string) {
		t.Helper()
		awaitStored(t, clients[0], strings.Replace(key, "written/", "seen/", 1), fmt.Sprint(len(value)))
	}
	// write has node i make a small and a large change.
	write := func(i, round int, each func(key, value string)) {
		t.Helper()
		small, large := fmt.Sprintf("written/small/%d", i), fmt.Sprintf("written/large/%d", i)
		putValue(t, clients[i], small, strings.Repeat("s", round))
		putValue(t, clients[i], large, strings.Repeat("x", 300<<10+round))
		each(small, strings.Repeat("s", round))
		each(large, strings.Repeat("x", 300<<10+round))
	}
	for i := range clients { // and so it is one that others may be sent to for these keys
		write(i, 1, seen)
	}

	stopProcess(t, process)
	begin := time.Now()
	for i := range clients {
		write(i, 2, func(key, value string) {
			for _, c := range clients {
				awaitStored(t, c, key, value)
			}
		})
	}
	// Were they held up by the stopped one, it would be for each change until a
	// stream to it fails.
	if took, limit := time.Since(begin), nodes[0].cfg.StreamTimeout; took > limit {
		t.Errorf("the others took %v to hear from each other, streams time out after %v", took, limit)
	}
	for _, n := range nodes {
		soon(t, n.Name()+" waits for no stream", func() bool { return n.spread.Stats().Queues.StreamsOut == 0 })
		if len(n.Peers()) != size {
			t.Errorf("the stopped node is no member for %s any more: this test shows nothing", n.Name())
		}
	}

	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for i := range clients {
		seen(fmt.Sprintf("written/small/%d", i), "ss")
		seen(fmt.Sprintf("written/large/%d", i), strings.Repeat("x", 300<<10+2))
	}
}

func withJoin(cfg Config, join []string) Config {
	cfg.Join = join
	return cfg
}

// startChild starts a node in a process of its own, and ends it with the test.
func startChild(t *testing.T, join string) *os.Process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), joinVariable+"="+join)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Before t.Context ends, which kills it.
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Signal(syscall.SIGCONT) // should the test have failed
		_ = cmd.Wait()
		if stderr.Len() > 0 {
			t.Logf("the child: %s", &stderr)
		}
	})
	return cmd.Process
}

// stopProcess stops a child and returns when it stands.
func stopProcess(t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	soon(t, "the process stands", func() bool {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(p.Pid, &status, syscall.WUNTRACED|syscall.WNOHANG, nil)
		if err != nil {
			t.Fatal(err)
		}
		return pid == p.Pid && status.Stopped()
	})
}
