package drivertest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/certs"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// CertificatesAreReplaced wants an authority and a certificate of ours that are
// replaced in place to be used from the next connection on. open opens handles
// that end with the test.
func CertificatesAreReplaced(t *testing.T, c *testserver.Cluster, open func(config.TLS) []driver.Store) {
	t.Helper()
	stranger, err := certs.NewAuthority(t.TempDir(), "stranger")
	if err != nil {
		t.Fatal(err)
	}
	expired, err := c.Authority().Expired("expired")
	if err != nil {
		t.Fatal(err)
	}
	dir, good := t.TempDir(), c.ClientCert()
	cfg := config.TLS{Enabled: true, CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	certificate := func(pair certs.Pair) {
		t.Helper()
		replace(t, cfg.CertFile, pair.CertFile)
		replace(t, cfg.KeyFile, pair.KeyFile)
	}
	replace(t, cfg.CAFile, stranger.File())
	certificate(expired)
	stores := open(cfg)
	// gRPC pauses before it connects again.
	eventually := func(what string, holds func(err error) bool) {
		t.Helper()
		for _, s := range stores {
			Eventually(t, func() error {
				_, err := s.Get(WithTimeout(t, 5*time.Second), driver.GetRequest{Key: t.Name()})
				if !holds(err) {
					return fmt.Errorf("%s: %w", what, err)
				}
				return nil
			})
		}
	}
	eventually("an unknown authority is not refused", driver.IsPermanent)
	replace(t, cfg.CAFile, c.Authority().File())
	eventually("an expired certificate is not refused", driver.IsPermanent)
	certificate(good)
	eventually("what is good is not taken", func(err error) bool { return err == nil })
}

// PasswordIsReplaced wants a password that was replaced in its file to be used at once, by
// clients that have been refused with the old one: for calls and for watches.
func PasswordIsReplaced(t *testing.T, password string, open func(file string) driver.Store) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("guess")
	s, watching := open(file), open(file)
	_, err := s.Get(WithTimeout(t, patience), driver.GetRequest{Key: "k"})
	for _, err := range []error{err, watching.Watch(WithTimeout(t, patience), driver.WatchRequest{Range: driver.Range{Key: "k"}}, nil)} {
		if !errors.Is(err, driver.ErrPermission) || strings.Contains(err.Error(), "guess") {
			t.Errorf("with a wrong password: %v", err)
		}
	}
	write(password)
	Put(t, s, "k", "v")
	Follow(t.Context(), t, watching, driver.Range{Key: "k"}, nil).Sees(t, map[string]string{"k": "v"})
}

// replace writes over a file in place.
func replace(t *testing.T, file, by string) {
	t.Helper()
	text, err := os.ReadFile(by)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
