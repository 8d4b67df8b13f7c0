//go:build !unix || solaris || aix

package network

// dontWait: there is no such flag here; a send may wait for the socket's buffer.
const dontWait = 0
