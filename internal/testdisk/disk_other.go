//go:build !linux

package testdisk

import (
	"errors"
	"testing"
)

// A Disk is a small file system of its own, which only Linux has.
type Disk struct{}

// New skips the test.
func New(t testing.TB, _ string) Disk {
	t.Helper()
	t.Skip("a small disk takes Linux")
	return Disk{}
}

// Dir returns the folder where the disk is.
func (Disk) Dir() string { return "" }

// Fill takes all the room that is left.
func (Disk) Fill() error { return errors.ErrUnsupported }

// Drain gives the room back.
func (Disk) Drain() error { return errors.ErrUnsupported }
