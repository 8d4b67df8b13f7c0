//go:build !unix

package testserver

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

var errNotSupported = errors.New("not supported on " + runtime.GOOS)

func childAttributes() *syscall.SysProcAttr { return nil }
func guardChild(int) (release func())       { return func() {} }
func terminate(p *os.Process) error         { return errNotSupported }
func pause(p *os.Process) error             { return errNotSupported }
func resume(p *os.Process) error            { return errNotSupported }
func runAs(*syscall.SysProcAttr, int, int)  {}
