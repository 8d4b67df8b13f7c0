package bolt

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	berrors "go.etcd.io/bbolt/errors"

	"github.com/polykv/polykv/kv/driver"
)

func TestHandlesShareTheFile(t *testing.T) {
	var files Files
	cfg := fileOf(t)
	a, b := open(t, &files, cfg), open(t, &files, cfg)
	put(t, a, "k", "v")
	closeStore(t, a)
	closeStore(t, a) // again, which must not take b's
	if e := get(t, b, "k"); string(e.Value) != "v" {
		t.Errorf("the other handle reads %+v", e)
	}

	cfg.NoSync = true
	if _, err := files.Open(cfg); err == nil || !strings.Contains(err.Error(), "other settings") {
		t.Errorf("opened with other settings: %v", err)
	}
	closeStore(t, b)
	open(t, &files, cfg)
}

func TestFileInUse(t *testing.T) {
	var files, others Files // as of another process: the lock does not know
	cfg := fileOf(t)
	cfg.Timeout = time.Millisecond
	open(t, &files, cfg)
	_, err := others.Open(cfg)
	if !errors.Is(err, berrors.ErrTimeout) || !strings.HasPrefix(err.Error(), "path: "+cfg.Path+" is in use") {
		t.Errorf("opened twice: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"path: name":       func(c *Config) { c.Path = "" },
		"path: ":           func(c *Config) { c.Path = filepath.Join(c.Path, "below", "a file") },
		"timeout: ":        func(c *Config) { c.Timeout = 0 },
		"max_value_size: ": func(c *Config) { c.MaxValueSize = -1 },
	} {
		cfg := fileOf(t)
		change(&cfg)
		if _, err := new(Files).Open(cfg); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("want an error about %q, got %v", field, err)
		}
	}
}

func TestTooLarge(t *testing.T) {
	var files Files
	h := open(t, &files, fileOf(t))
	limits := h.Limits()
	for what, s := range map[string]driver.Swap{
		"key":   {Key: strings.Repeat("k", limits.Key+1)},
		"value": {Key: "k", Value: make([]byte, limits.Value+1)},
	} {
		r, err := h.Swap(t.Context(), s)
		if r.Outcome != driver.NotApplied || !errors.Is(err, driver.ErrTooLarge) {
			t.Errorf("a %s over the limit: %v, %v", what, r.Outcome, err)
		}
	}
	largest := driver.Swap{Key: strings.Repeat("k", limits.Key), Value: make([]byte, limits.Value), ID: 1}
	swap(t, h, largest)
}
