//go:build unix

package testserver

import (
	"os/exec"
	"strconv"
	"syscall"
)

// shellGuard ties the child's life to ours where the kernel has no death signal. It starts a shell that reads from a
// pipe whose other end only this process holds: when this process ends, however it ends, the shell reads the pipe's
// end and kills the child. If there is no shell, the child is unguarded.
func shellGuard(pid int) (release func()) {
	guard := exec.Command("/bin/sh", "-c", `read -r _ || kill -9 "$0"`, strconv.Itoa(pid))
	guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := guard.StdinPipe()
	if err != nil {
		return func() {}
	}
	if err := guard.Start(); err != nil {
		return func() {}
	}
	return func() {
		_, _ = pipe.Write([]byte("released\n"))
		_ = guard.Wait()
	}
}
