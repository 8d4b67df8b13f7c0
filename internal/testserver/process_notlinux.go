//go:build unix && !linux

package testserver

import "syscall"

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// guardChild leaves the child unguarded if there is no shell.
func guardChild(pid int) (release func()) {
	guard, err := newShellGuard(pid)
	if err != nil {
		return func() {}
	}
	return guard.release
}
