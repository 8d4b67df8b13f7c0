// Package testdisk gives tests a small disk that can be full.
package testdisk

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A Disk is a small file system of its own, in memory.
type Disk struct{ dir string }

// New makes a disk of so many bytes, which is gone after the test. It takes
// root: else the test is skipped.
func New(t testing.TB, size string) Disk {
	t.Helper()
	dir := t.TempDir()
	switch err := syscall.Mount("polykv-test", dir, "tmpfs", 0, "size="+size); {
	case errors.Is(err, syscall.EPERM):
		t.Skip("mounting a small disk takes root")
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return Disk{dir}
}

// Dir returns the folder where the disk is.
func (d Disk) Dir() string { return filepath.Join(d.dir, "data") }

func (d Disk) filler() string { return filepath.Join(d.dir, "filler") }

// Fill takes all the room that is left.
func (d Disk) Fill() error {
	f, err := os.Create(d.filler())
	if err != nil {
		return err
	}
	for page := make([]byte, 4<<10); err == nil; {
		_, err = f.Write(page)
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// Drain gives the room back. It may be called again.
func (d Disk) Drain() error {
	if err := os.Remove(d.filler()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
