package coordination_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/locktest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/coordination"
	"github.com/polykv/polykv/kv/factory"
)

// What a child process is told by its environment.
const (
	childRole   = "POLYKV_COORDINATION_ROLE"
	childConfig = "POLYKV_COORDINATION_CONFIG"
)

// serverTTL leaves a busy machine time for its beats.
const serverTTL = 6 * time.Second

func TestMain(m *testing.M) {
	switch role := os.Getenv(childRole); role {
	case "":
		goleak.VerifyTestMain(m)
	default:
		if err := child(role); err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
	}
}

// child takes part in a lock.
func child(role string) error {
	ctx := context.Background()
	c, l, err := participant(ctx, os.Getenv(childConfig))
	if err != nil {
		return err
	}
	defer c.Close()
	if role == "observe" || role == "join" {
		return attend(ctx, role, c)
	}
	if role == "contend" {
		var all sync.WaitGroup
		errs := make(chan error, 8*2)
		for range 8 {
			all.Go(func() {
				for range 2 {
					errs <- turn(ctx, l)
				}
			})
		}
		all.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				return err
			}
		}
		return l.Close()
	}
	held, err := l.Lock(ctx)
	if err != nil {
		return err
	}
	fenced, err := held.Client()
	if err != nil {
		return err
	}
	fmt.Println("held", held.Term())
	for { // it never looks whether it has lost the lock
		if err := locktest.Append(ctx, fenced, held.Term()); errors.Is(err, kv.ErrFenced) {
			fmt.Println("fenced, told:", held.Err())
			return l.Close()
		}
	}
}

// participant opens a client by configuration, and a lock on it.
func participant(ctx context.Context, config string) (kv.Client, *coordination.Lock, error) {
	cfg := factory.NewConfig()
	if err := cfg.Load(strings.NewReader(config)); err != nil {
		return nil, nil, err
	}
	c, err := factory.New(ctx, cfg, codec.String{}, factory.Deps{Logger: quiet})
	if err != nil {
		return nil, nil, err
	}
	if cfg.Backend == "memberlist" {
		return c, nil, nil
	}
	l, err := coordination.NewLock(c, "locks/job", coordination.Options{TTL: serverTTL, Logger: quiet})
	return c, l, err
}

// turn takes the lock, acts, and gives it back.
func turn(ctx context.Context, l *coordination.Lock) error {
	held, err := l.Lock(ctx)
	if err != nil {
		return err
	}
	fenced, err := held.Client()
	if err != nil {
		return err
	}
	if err := locktest.Append(ctx, fenced, held.Term()); err != nil {
		return err
	}
	return held.Unlock(ctx)
}

// servers are the configurations of clients of real servers.
func servers(t *testing.T) map[string]string {
	etcd := servertest.Etcd(t, testserver.Options{NoFsync: true})
	consul := servertest.Consul(t, testserver.Options{})
	return map[string]string{
		"etcd":   fmt.Sprintf("{backend: etcd, etcd: {endpoints: [%q]}}", etcd.Endpoints()[0]),
		"consul": fmt.Sprintf("{backend: consul, consul: {address: %q}}", consul.Endpoints()[0]),
	}
}

// process is a child and the lines that it prints.
type process struct {
	*exec.Cmd
	lines *bufio.Scanner
}

func start(t *testing.T, role, config string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"="+role, childConfig+"="+config)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return &process{cmd, bufio.NewScanner(out)}
}

func (p *process) line() string {
	p.lines.Scan()
	return p.lines.Text()
}

// A process that holds the lock is stopped for longer than the TTL and goes on
// writing when it wakes: nothing of that arrives. One that is killed is followed
// after a TTL.
func TestHolderProcessIsStopped(t *testing.T) {
	t.Parallel()
	for backend, config := range servers(t) {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			stopped := start(t, "hold", config)
			if got := stopped.line(); got != "held 1" {
				t.Fatalf("the first process says %q", got)
			}
			c, l, err := participant(ctx, config)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			defer l.Close()
			for acts := any(nil); acts == nil && err == nil; {
				acts, err = c.Get(ctx, "acts")
			}
			if err := errors.Join(err, stopped.Process.Signal(syscall.SIGSTOP)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			for range 3 {
				if err := turn(ctx, l); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("taken over, and used three times, %v after the holder was stopped", time.Since(began))
			if err := stopped.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			if got := stopped.line(); !strings.HasPrefix(got, "fenced") {
				t.Errorf("the process that was stopped says %q", got)
			}
			if err := stopped.Wait(); err != nil {
				t.Error(err)
			}
			killed := start(t, "hold", config)
			if got := killed.line(); !strings.HasPrefix(got, "held ") {
				t.Fatalf("the next process says %q", got)
			}
			if err := killed.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = killed.Wait() // it was killed
			if err := turn(ctx, l); err != nil {
				t.Fatal(err)
			}
			wantInOrder(t, c, 5)
		})
	}
}

// 64 contenders in 8 processes: each gets its turns, one at a time.
func TestContendersInProcesses(t *testing.T) {
	t.Parallel()
	for backend, config := range servers(t) {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			const processes = 8
			var all []*process
			for range processes {
				all = append(all, start(t, "contend", config))
			}
			for _, p := range all {
				if got := p.line(); got != "" {
					t.Errorf("a process says %q", got)
				}
				if err := p.Wait(); err != nil {
					t.Errorf("a process failed: %v", err)
				}
			}
			c, l, err := participant(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			defer l.Close()
			wantInOrder(t, c, processes*8*2)
		})
	}
}
