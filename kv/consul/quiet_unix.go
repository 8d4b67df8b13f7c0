//go:build unix

package consul

import (
	"errors"
	"net"
	"syscall"
)

// quiet reports whether an idle connection is open and nothing has come on it:
// what is heard on one that waits for no answer is its end.
func quiet(conn net.Conn) bool {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) // which never waits: the descriptor is of that kind
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return quiet && err == nil
}
