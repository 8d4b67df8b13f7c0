package etcd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A password that is replaced, in the cluster and in its file, in either order,
// needs no restart.
func TestPasswordIsReplaced(t *testing.T) {
	c := secured.Get(t)
	name, p := drivertest.Unique(t), drivertest.Unique(t)+"/"
	if err := c.AddUser(t.Context(), name, "first", testserver.Permission{Prefix: p, Read: true, Write: true}); err != nil {
		t.Fatal(err)
	}
	root, err := c.EtcdClient()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	change := func(password string) {
		t.Helper()
		if _, err := root.UserChangePassword(t.Context(), name, password); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "password")
	write(t, file, "first\n")
	cfg := configFor(c)
	cfg.Username, cfg.PasswordFile = name, file
	s := open(t, cfg)
	drivertest.Put(t, s, p+"k", "1")

	change("second") // which ends the user's tokens
	if _, err := s.Get(t.Context(), driver.GetRequest{Key: p + "k"}); !errors.Is(err, driver.ErrPermission) {
		t.Errorf("with the old password: %v", err)
	}
	write(t, file, "second")
	drivertest.Put(t, s, p+"k", "2") // the first call finds it

	write(t, file, "third")
	change("third")
	f := follow(t, s, driver.Range{Key: p, IsPrefix: true})
	f.Sees(t, map[string]string{p + "k": "2"})
	drivertest.Put(t, s, p+"k", "3")
	f.Sees(t, map[string]string{p + "k": "3"})

	// A file that is gone leaves the last one in use.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	change("third")
	drivertest.Put(t, s, p+"k", "4")
}

func TestCertificatesAreReplaced(t *testing.T) {
	c := mutual.Get(t)
	drivertest.CertificatesAreReplaced(t, c, func(tls config.TLS) []driver.Store {
		cfg := configFor(c)
		cfg.TLS = tls
		return []driver.Store{open(t, cfg)}
	})
}
