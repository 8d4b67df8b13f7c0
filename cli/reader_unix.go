//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// readerGone reports whether file is a pipe that nobody reads.
func readerGone(file *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(file.Fd())}} //nolint:gosec // a file descriptor is small
	n, err := unix.Poll(fds, 0)
	return n == 1 && err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}
