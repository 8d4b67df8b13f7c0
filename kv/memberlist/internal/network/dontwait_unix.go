//go:build unix && !solaris && !aix

package network

import "syscall"

// dontWait makes a send that finds no room fail instead of waiting for some.
const dontWait = syscall.MSG_DONTWAIT
