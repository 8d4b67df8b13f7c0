//go:build unix

package testserver_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/testserver"
)

func leader(t *testing.T, c *testserver.Cluster) int {
	t.Helper()
	i, err := c.Leader(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func ready(t *testing.T, c *testserver.Cluster) {
	t.Helper()
	if err := c.WaitReady(limited(t)); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSingleNode(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c := k.cluster(t, testserver.Options{NoFsync: true})
			endpoints := c.Endpoints()
			if len(endpoints) != 1 || !strings.HasPrefix(endpoints[0], "127.0.0.1:") {
				t.Errorf("endpoints %v; want one on loopback", endpoints)
			}
			k.mustPut(t, c, 0, "kept", "1")

			before := c.Pid(0)
			check(t, c.Restart())
			ready(t, c)
			if c.Pid(0) == before || gone(before) != nil {
				t.Errorf("process %d was not replaced (now %d): %v", before, c.Pid(0), gone(before))
			}
			k.mustGet(t, c, 0, "kept", "1")

			check(t, c.Kill(0))
			if c.Pid(0) != 0 {
				t.Error("there is a process after Kill")
			}
			check(t, c.Restart(0))
			ready(t, c)
			k.mustGet(t, c, 0, "kept", "1")
			if after := c.Endpoints(); after[0] != endpoints[0] {
				t.Errorf("the endpoint moved from %s to %s", endpoints[0], after[0])
			}

			check(t, c.Pause())
			pid, dir := c.Pid(0), c.Dir()
			check(t, c.Close()) // of a server that can't react
			if err := gone(pid); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the folder is still there (%v)", err)
			}
		})
	}
}

func TestThreeNodes(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			c := k.cluster(t, testserver.Options{Nodes: 3, NoFsync: true})
			k.mustPut(t, c, 0, "key", "0")
			for i := range c.Nodes() {
				k.mustGet(t, c, i, "key", "0")
			}

			first := leader(t, c)
			check(t, c.Kill(first))
			second := leader(t, c)
			if second == first {
				t.Fatalf("node %d leads though it was killed", first)
			}
			ready(t, c) // those that are left
			k.mustPut(t, c, second, "key", "1")
			check(t, c.Restart(first))
			ready(t, c)
			k.mustGet(t, c, first, "key", "1")

			second = leader(t, c)
			check(t, c.Pause(second))
			third := leader(t, c)
			if third == second {
				t.Fatalf("node %d leads though it was paused", second)
			}
			k.mustPut(t, c, third, "key", "2")
			if got, err := getWithin(t, k, c, second, 300*time.Millisecond); err == nil {
				t.Errorf("a paused node answered %q", got)
			}
			check(t, c.Continue(second))
			ready(t, c)
			k.mustGet(t, c, second, "key", "2")

			check(t, c.Stop())
			check(t, c.Restart())
			ready(t, c)
			k.mustGet(t, c, leader(t, c), "key", "2")
		})
	}
}

func getWithin(t *testing.T, k kind, c *testserver.Cluster, node int, d time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return k.get(ctx, c, node, "key")
}

// TestNoMajority wants of a cluster that can't serve that it isn't taken for one that can.
func TestNoMajority(t *testing.T) {
	c := kinds[0].cluster(t, testserver.Options{Nodes: 3, NoFsync: true})
	check(t, c.Kill(0, 1))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "node 2 is not ready") {
		t.Errorf("one node of three: %v; want an expired deadline and the node", err)
	}
	check(t, c.Kill())
	if err := c.WaitReady(limited(t)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no node at all: %v; want an error at once", err)
	}
}

func TestMisuse(t *testing.T) {
	k := kinds[0]
	c := k.cluster(t, testserver.Options{NoFsync: true})
	if err := c.Kill(1); err == nil {
		t.Error("killed a node that doesn't exist")
	}
	if _, err := c.AddToken(limited(t), ""); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a Consul token for etcd: %v", err)
	}
	check(t, c.Stop())
	if err := c.Pause(); err == nil {
		t.Error("paused a server that was stopped")
	}
	check(t, c.Close())
	check(t, c.Close())
	if err := c.Restart(); err == nil {
		t.Error("restarted a closed cluster")
	}
	if err := c.WaitReady(limited(t)); err == nil {
		t.Error("a closed cluster is ready")
	}
	if _, err := k.start(limited(t), testserver.Options{Nodes: 2}); err == nil {
		t.Error("started two nodes")
	}
	if _, err := k.start(limited(t), testserver.Options{Dir: "."}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("started in a folder that holds something: %v", err)
	}
}

// TestStartFailure wants the server's own reason, soon.
func TestStartFailure(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := k.start(limited(t), testserver.Options{Dir: dir, Args: []string{"-no-such-flag"}})
			if err == nil || !strings.Contains(err.Error(), "no-such-flag") {
				t.Errorf("got %v; want what the server said", err)
			}
		})
	}
}

// TestCrash: a server that ended by itself is reported, not waited for.
func TestCrash(t *testing.T) {
	c := kinds[0].cluster(t, testserver.Options{NoFsync: true})
	process, err := os.FindProcess(c.Pid(0))
	check(t, err)
	check(t, process.Kill())
	until(t, func() error { return gone(process.Pid) })
	err = c.WaitReady(limited(t))
	if err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("got %v", err)
	}
	check(t, c.Restart())
	ready(t, c)
}

func TestDirIsKept(t *testing.T) {
	dir := t.TempDir()
	c := kinds[0].cluster(t, testserver.Options{Dir: dir})
	check(t, c.Close())
	if text, err := os.ReadFile(c.LogFile(0)); err != nil || len(text) == 0 {
		t.Errorf("the log is gone: %v", err)
	}
}
