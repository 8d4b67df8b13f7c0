//go:build unix

package testserver

import (
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestPortsAreExclusive(t *testing.T) {
	const blocks, each = 20, 12
	var mu sync.Mutex
	owner := map[int]int{}
	var wg sync.WaitGroup
	for i := range blocks {
		wg.Go(func() {
			b, err := reservePorts(each)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(b.release)
			mu.Lock()
			defer mu.Unlock()
			for _, port := range b.ports {
				if other, taken := owner[port]; taken {
					t.Errorf("port %d belongs to %d and %d", port, other, i)
				}
				owner[port] = i
			}
		})
	}
	wg.Wait()
	if len(owner) != blocks*each {
		t.Errorf("%d ports; want %d", len(owner), blocks*each)
	}
}

// thief is etcd, but somebody else listens on the node's port before its first start.
type thief struct {
	etcdServer
	t      *testing.T
	stolen *net.Listener
}

func (s thief) args(c *Cluster, n *node) ([]string, error) {
	if *s.stolen == nil {
		l, err := net.Listen("tcp", c.endpoint(n))
		if err != nil {
			return nil, err
		}
		*s.stolen = l
		s.t.Cleanup(func() { _ = l.Close() })
	}
	return s.etcdServer.args(c, n)
}

func TestStolenPort(t *testing.T) {
	var stolen net.Listener
	c, err := start(t.Context(), Options{NoFsync: true}, thief{t: t, stolen: &stolen})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if stolen == nil || c.Endpoints()[0] == stolen.Addr().String() {
		t.Errorf("started on the port %v that somebody else has", stolen)
	}
}

// TestShellGuard tries on every system what the others than Linux rely on.
func TestShellGuard(t *testing.T) {
	guarded := func() (*exec.Cmd, *shellGuard) {
		child := exec.CommandContext(t.Context(), "sleep", "600")
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		guard, err := newShellGuard(child.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		return child, guard
	}

	spared, guard := guarded()
	guard.release()
	if err := spared.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a released guard killed: %v", err)
	}
	_ = spared.Process.Kill()
	_ = spared.Wait()

	orphan, guard := guarded()
	if err := guard.pipe.Close(); err != nil { // as the kernel does when the process that holds it ends
		t.Fatal(err)
	}
	_ = guard.shell.Wait()
	gone := make(chan struct{})
	go func() {
		_ = orphan.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Error("the guard let an orphan live")
		_ = orphan.Process.Kill()
		<-gone
	}
}

// TestThreadsEnd ends many threads of this process; the children that any of them started must stay.
func TestThreadsEnd(t *testing.T) {
	const children, threads = 20, 200
	var all [children]*process
	var started sync.WaitGroup
	for i := range children {
		started.Go(func() {
			var err error
			if all[i], err = startProcess("sleep", []string{"600"}, t.TempDir(), filepath.Join(t.TempDir(), "log"), childAttributes()); err != nil {
				t.Error(err)
			}
		})
	}
	started.Wait()
	if t.Failed() {
		t.FailNow()
	}
	var together, ended sync.WaitGroup
	together.Add(threads)
	for range threads {
		ended.Go(func() {
			runtime.LockOSThread() // never unlocked, so the thread ends with the goroutine
			together.Done()
			together.Wait() // so that there are that many threads, those included that were idle
		})
	}
	ended.Wait()
	for i, p := range all {
		select {
		case <-p.exited:
			t.Errorf("child %d went with a thread: %v", i, p.err)
		case <-time.After(10 * time.Millisecond): // all together long enough for the threads to end
		}
		p.kill()
	}
}
