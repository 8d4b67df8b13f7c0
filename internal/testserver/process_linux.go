package testserver

import "syscall"

// childAttributes has the kernel kill the child when the thread that started it ends. Its own process group keeps an
// interrupt typed at the terminal for us to handle.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// guardChild has nothing to do where the kernel guards the child.
func guardChild(int) (release func()) { return func() {} }
