package testserver

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A process is a child that never outlives this program.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once the child is gone and reaped
	err    error         // how it ended; set before exited is closed
}

// startProcess runs the program with both of its outputs appended to the log file.
func startProcess(program string, args []string, dir, logFile string, as *syscall.SysProcAttr) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	p := &process{cmd: exec.Command(program, args...), exited: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = environment()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = as
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// run starts the child, waits for it and reaps it, all on one thread that lives as long as the child does: Linux
// sends the death signal when the thread that forked ends, which the Go runtime may let happen at any time to a
// thread that isn't held.
func (p *process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	release := guardChild(p.cmd.Process.Pid)
	started <- nil
	p.err = p.cmd.Wait()
	release()
	close(p.exited)
}

// environment is ours without the variables that etcd and Consul would take for configuration.
func environment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "ETCD_") && !strings.HasPrefix(v, "CONSUL_") {
			env = append(env, v)
		}
	}
	return env
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// kill ends the child, a paused one included, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it is gone already
	<-p.exited
}

// stop asks the child to end, and kills it if it has not done so after grace.
func (p *process) stop(grace time.Duration) {
	if err := terminate(p.cmd.Process); err != nil {
		p.kill()
		return
	}
	select {
	case <-p.exited:
	case <-time.After(grace):
		p.kill()
	}
}
