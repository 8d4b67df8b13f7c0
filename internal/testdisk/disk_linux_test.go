package testdisk_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/polykv/polykv/internal/testdisk"
)

func TestDisk(t *testing.T) {
	disk := testdisk.New(t, "1m")
	if err := os.Mkdir(disk.Dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func() error { return os.WriteFile(filepath.Join(disk.Dir(), "f"), make([]byte, 64<<10), 0o600) }
	for range 2 {
		if err := disk.Fill(); err != nil {
			t.Fatal(err)
		}
		if err := write(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("on a full disk: %v", err)
		}
		for range 2 {
			if err := disk.Drain(); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(write(), os.Remove(filepath.Join(disk.Dir(), "f"))); err != nil {
			t.Errorf("on a drained disk: %v", err)
		}
	}
}
