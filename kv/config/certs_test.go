package config_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64 // serial number
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t), next: 1}
	a.certify(t, a)
	return a
}

// certify gives a the certificate of an authority, signed by issuer, which may be a itself.
func (a *authority) certify(t *testing.T, issuer *authority) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: fmt.Sprint("authority ", a.next)},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	parent := issuer.cert
	if issuer == a {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &a.key.PublicKey, issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
}

func (a *authority) pem() string { return toPEM("CERTIFICATE", a.cert.Raw) }

// issue returns the PEM of a certificate for the name that key belongs to, and its serial number.
func (a *authority) issue(t *testing.T, name string, public crypto.PublicKey, lifetime time.Duration) (certPEM string, serial int64) {
	t.Helper()
	a.next++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return toPEM("CERTIFICATE", der), a.next
}

func toPEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func keyPEM(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return toPEM("PRIVATE KEY", der)
}

// write puts content into a file of dir and returns its path.
func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkNoKey wants nothing of the key in the text of err.
func checkNoKey(t *testing.T, err error, keyPEM string) {
	t.Helper()
	for line := range strings.Lines(keyPEM) {
		line = strings.TrimSpace(line)
		for i := 0; i+8 <= len(line) && !strings.HasPrefix(line, "-----"); i++ {
			if strings.Contains(err.Error(), line[i:i+8]) {
				t.Errorf("the key shows in %q", err)
				return
			}
		}
	}
}

// handshake connects the two and returns what the server saw of the client's certificate.
func handshake(t *testing.T, server, client *tls.Config) (clientCert *x509.Certificate, serverErr, clientErr error) {
	t.Helper()
	// Not net.Pipe, which has no buffer: two sides that write at once, as a refusal makes them, would block.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	deadline := time.Now().Add(10 * time.Second)
	type outcome struct {
		cert *x509.Certificate
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			done <- outcome{err: err}
			return
		}
		conn := tls.Server(raw, server)
		defer conn.Close()
		_ = conn.SetDeadline(deadline)
		o := outcome{err: conn.Handshake()}
		if certs := conn.ConnectionState().PeerCertificates; len(certs) > 0 {
			o.cert = certs[0]
		}
		done <- o
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, client)
	defer conn.Close()
	_ = conn.SetDeadline(deadline)
	if clientErr = conn.Handshake(); clientErr != nil {
		raw.Close()
	}
	o := <-done
	return o.cert, o.err, clientErr
}
