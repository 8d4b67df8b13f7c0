//go:build !unix

package testserver

import (
	"os"
	"syscall"
)

func childAttributes() *syscall.SysProcAttr { return nil }
func guardChild(int) (release func())       { return func() {} }
func terminate(p *os.Process) error         { return errNotSupported }
func pause(p *os.Process) error             { return errNotSupported }
func resume(p *os.Process) error            { return errNotSupported }
