package etcd

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/certs"
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

// An authority or a certificate of ours that is replaced in place is used from
// the next connection on.
func TestCertificatesAreReplaced(t *testing.T) {
	c := mutual.Get(t)
	stranger, err := certs.NewAuthority(t.TempDir(), "stranger")
	if err != nil {
		t.Fatal(err)
	}
	expired, err := c.Authority().Expired("expired")
	if err != nil {
		t.Fatal(err)
	}
	cfg := mutualConfig(t)
	dir := t.TempDir()
	replace := func(field *string, by string) {
		t.Helper()
		text, err := os.ReadFile(by)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(*field) != dir {
			*field = filepath.Join(dir, filepath.Base(*field))
		}
		write(t, *field, string(text))
	}
	good := cfg.TLS
	replace(&cfg.TLS.CAFile, stranger.File())
	replace(&cfg.TLS.CertFile, expired.CertFile)
	replace(&cfg.TLS.KeyFile, expired.KeyFile)
	s := open(t, cfg)
	refused := func(what string) {
		t.Helper()
		drivertest.Eventually(t, func() error {
			_, err := s.Get(drivertest.WithTimeout(t, 5*time.Second), driver.GetRequest{Key: t.Name()})
			if !driver.IsPermanent(err) {
				return errors.New(what + " is not refused yet")
			}
			return nil
		})
	}
	refused("an unknown authority")
	replace(&cfg.TLS.CAFile, good.CAFile)
	refused("an expired certificate")
	replace(&cfg.TLS.CertFile, good.CertFile)
	replace(&cfg.TLS.KeyFile, good.KeyFile)
	drivertest.Eventually(t, func() error { // gRPC pauses before it connects again
		_, err := s.Get(drivertest.WithTimeout(t, 5*time.Second), driver.GetRequest{Key: t.Name()})
		return err
	})
}
