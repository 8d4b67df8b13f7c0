//go:build unix

package testserver

import (
	"io"
	"os/exec"
	"strconv"
	"syscall"
)

// A shellGuard ties a child's life to ours where the kernel has no death signal. It is a shell that reads from a pipe
// whose other end only this process holds: when this process ends, however it ends, the shell reads the pipe's end
// and kills the child.
type shellGuard struct {
	shell *exec.Cmd
	pipe  io.WriteCloser
}

func newShellGuard(pid int) (*shellGuard, error) {
	shell := exec.Command("/bin/sh", "-c", `read -r _ || kill -9 "$0"`, strconv.Itoa(pid))
	shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := shell.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := shell.Start(); err != nil {
		return nil, err
	}
	return &shellGuard{shell: shell, pipe: pipe}, nil
}

// release ends the guard and spares the child.
func (g *shellGuard) release() {
	_, _ = g.pipe.Write([]byte("released\n"))
	_ = g.shell.Wait()
}
