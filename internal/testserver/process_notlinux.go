//go:build unix && !linux

package testserver

import "syscall"

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func guardChild(pid int) (release func()) { return shellGuard(pid) }
