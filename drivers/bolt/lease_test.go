package bolt_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/polykv/polykv/drivers/bolt"
	"github.com/polykv/polykv/kv/driver"
)

// A file that is opened again knows its leases, and gives them their whole TTL.
func TestLeasesOutliveTheProcess(t *testing.T) {
	var files bolt.Files
	cfg := *bolt.NewConfig()
	cfg.Path = filepath.Join(t.TempDir(), "data.db")
	open := func() (driver.Store, driver.Leaser) {
		s, err := files.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		l, ok := s.(driver.Leaser)
		if !ok {
			t.Fatal("no leases")
		}
		return s, l
	}
	exists := func(s driver.Store, key string) bool {
		e, err := s.Get(t.Context(), driver.GetRequest{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		return e.Exists()
	}
	s, l := open()
	long, err := l.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	short, err := l.Grant(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for key, lease := range map[string]driver.LeaseID{"long": long.ID, "short": short.ID, "none": ""} {
		if r, err := s.Swap(t.Context(), driver.Swap{Key: key, Value: []byte("v"), Lease: lease, ID: 1}); r.Outcome != driver.Applied {
			t.Fatal(r, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, l = open()
	defer s.Close()
	if err := l.Renew(t.Context(), long.ID); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(time.Minute); exists(s, "short"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a lease of 1 s holds its key for a minute")
		}
	}
	if !exists(s, "long") || !exists(s, "none") {
		t.Error("more is gone than the lease had")
	}
	if err := l.Revoke(t.Context(), long.ID); err != nil {
		t.Error(err)
	}
	if exists(s, "long") {
		t.Error("a lease that was revoked left its key")
	}
}
