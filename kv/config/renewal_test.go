package config_test

import (
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polykv/polykv/kv/config"
)

// renewal is a client whose files are replaced while it runs.
type renewal struct {
	ca     *authority
	dir    string
	config config.TLS
}

func newRenewal(t *testing.T) *renewal {
	r := &renewal{ca: newAuthority(t), dir: t.TempDir()}
	r.config = config.TLS{
		Enabled: true, ServerName: "server",
		CAFile: write(t, r.dir, "ca.pem", r.ca.pem()), CertFile: r.dir + "/cert.pem", KeyFile: r.dir + "/key.pem",
	}
	return r
}

func (r *renewal) newPair(t *testing.T, lifetime time.Duration) (certText, keyText string, serial int64) {
	key := newKey(t)
	certText, serial = r.ca.issue(t, "client", &key.PublicKey, lifetime)
	return certText, keyPEM(t, key), serial
}

func (r *renewal) install(t *testing.T, lifetime time.Duration) (serial int64) {
	certText, keyText, serial := r.newPair(t, lifetime)
	write(t, r.dir, "cert.pem", certText)
	write(t, r.dir, "key.pem", keyText)
	return serial
}

func TestRenewedCertificateIsUsed(t *testing.T) {
	r := newRenewal(t)
	first := r.install(t, time.Hour)
	server := newServer(t, r.ca)
	client, err := r.config.Load()
	if err != nil {
		t.Fatal(err)
	}
	// Clients of HTTP and gRPC work with copies.
	client = client.Clone()
	check := func(when string, want int64) {
		t.Helper()
		cert, serverErr, clientErr := handshake(t, server, client)
		if serverErr != nil || clientErr != nil {
			t.Fatalf("%s: %v, %v", when, serverErr, clientErr)
		}
		if got := cert.SerialNumber.Int64(); got != want {
			t.Errorf("%s: certificate %d is in use, want %d", when, got, want)
		}
	}
	check("at first", first)
	check("unchanged", first)
	before, _ := client.GetClientCertificate(nil)
	if after, _ := client.GetClientCertificate(nil); after != before {
		t.Error("unchanged files are parsed again")
	}

	second := r.install(t, time.Hour)
	check("renewed", second)

	// The two files can't be replaced at once. A key of the same size and time as before is the hardest to notice.
	stat, err := os.Stat(r.config.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	certText, keyText, third := r.newPair(t, time.Hour)
	write(t, r.dir, "key.pem", keyText)
	if err := os.Chtimes(r.config.KeyFile, stat.ModTime(), stat.ModTime()); err != nil {
		t.Fatal(err)
	}
	check("only the key is new", second)
	write(t, r.dir, "cert.pem", certText[:len(certText)/2])
	check("half of the certificate is written", second)
	if err := os.Remove(r.config.CertFile); err != nil {
		t.Fatal(err)
	}
	check("the certificate is gone", second)
	write(t, r.dir, "cert.pem", certText)
	check("both are new", third)
}

func TestExpiredPairIsNotUsed(t *testing.T) {
	r := newRenewal(t)
	r.install(t, -time.Minute) // has expired
	client, err := r.config.Load()
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(t, r.ca)

	// As long as the files are in order, it is up to the server.
	if _, serverErr, _ := handshake(t, server, client); serverErr == nil || !strings.Contains(serverErr.Error(), "expired") {
		t.Errorf("got %v", serverErr)
	}
	_, keyText, _ := r.newPair(t, time.Hour)
	write(t, r.dir, "key.pem", keyText)
	_, _, clientErr := handshake(t, server, client)
	if clientErr == nil || !strings.Contains(clientErr.Error(), "tls.key_file: "+r.config.KeyFile+": tls: private key does not match") {
		t.Fatalf("got %v", clientErr)
	}
	checkNoKey(t, clientErr, keyText)
}

func TestConcurrentHandshakes(t *testing.T) {
	r := newRenewal(t)
	r.install(t, time.Hour)
	server := newServer(t, r.ca)
	client, err := r.config.Load()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if _, serverErr, clientErr := handshake(t, server, client); serverErr != nil || clientErr != nil {
					t.Errorf("%v, %v", serverErr, clientErr)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	for {
		select {
		case <-done:
			return
		default:
			r.install(t, time.Hour)
		}
	}
}

// Many tools renew only the certificate.
func TestRenewedCertificateOfTheSameKey(t *testing.T) {
	r := newRenewal(t)
	key := newKey(t)
	write(t, r.dir, "key.pem", keyPEM(t, key))
	certText, _ := r.ca.issue(t, "client", &key.PublicKey, time.Hour)
	write(t, r.dir, "cert.pem", certText)
	client, err := r.config.Load()
	if err != nil {
		t.Fatal(err)
	}
	certText, want := r.ca.issue(t, "client", &key.PublicKey, time.Hour)
	write(t, r.dir, "cert.pem", certText)
	if cert, err := client.GetClientCertificate(nil); err != nil || cert.Leaf.SerialNumber.Int64() != want {
		t.Errorf("got %v, %v, want certificate %d", cert, err, want)
	}
}

func TestIntermediateCertificatesAreSent(t *testing.T) {
	r := newRenewal(t)
	intermediate := &authority{key: newKey(t), next: 100}
	intermediate.certify(t, r.ca)
	key := newKey(t)
	certText, serial := intermediate.issue(t, "client", &key.PublicKey, time.Hour)
	write(t, r.dir, "cert.pem", certText+intermediate.pem())
	write(t, r.dir, "key.pem", keyPEM(t, key))
	client, err := r.config.Load()
	if err != nil {
		t.Fatal(err)
	}
	cert, serverErr, clientErr := handshake(t, newServer(t, r.ca), client)
	if serverErr != nil || clientErr != nil || cert.SerialNumber.Int64() != serial {
		t.Errorf("%v, %v, %v", cert, serverErr, clientErr)
	}
}
