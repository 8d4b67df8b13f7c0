package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func authority(t *testing.T, name string) *Authority {
	t.Helper()
	a, err := NewAuthority(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func load(t *testing.T, p Pair, err error) tls.Certificate {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := p.Load()
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// handshake returns what the client and the server make of each other.
func handshake(t *testing.T, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	client.ServerName = "127.0.0.1"
	client.MaxVersion = tls.VersionTLS12 // where a server refuses a client within the client's handshake
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = shake(conn, tls.Server(conn, server))
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	clientErr = shake(conn, tls.Client(conn, client))
	return clientErr, <-done
}

func shake(conn net.Conn, side *tls.Conn) error {
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	return side.Handshake()
}

func TestHandshakes(t *testing.T) {
	ours, stranger := authority(t, "ca"), authority(t, "stranger")
	p, err := ours.Server("server")
	server := load(t, p, err)
	p, err = ours.Client("client")
	client := load(t, p, err)
	p, err = stranger.Client("client")
	strange := load(t, p, err)
	p, err = ours.Expired("expired")
	expired := load(t, p, err)

	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	tests := []struct {
		name           string
		roots          *Authority
		client, server tls.Certificate
		clientAs       any // an error of this type is wanted
		serverAs       any
	}{
		{"both trusted", ours, client, server, nil, nil},
		{"server unknown", stranger, client, server, &unknown, nil},
		{"server expired", ours, client, expired, &invalid, nil},
		{"client unknown", ours, strange, server, nil, &unknown},
		{"client expired", ours, expired, server, nil, &invalid},
		{"client's used for a server", ours, client, client, &invalid, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			clientErr, serverErr := handshake(t,
				&tls.Config{RootCAs: test.roots.Pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return &test.client, nil // shown to whoever asks, as a stubborn client would
				}},
				&tls.Config{ClientCAs: ours.Pool(), ClientAuth: tls.RequireAndVerifyClientCert, Certificates: []tls.Certificate{test.server}})
			if test.clientAs == nil && test.serverAs == nil && errors.Join(clientErr, serverErr) != nil {
				t.Errorf("client: %v; server: %v; want none", clientErr, serverErr)
			}
			if test.clientAs != nil && !errors.As(clientErr, test.clientAs) {
				t.Errorf("client: %v; want %T", clientErr, test.clientAs)
			}
			if test.serverAs != nil && !errors.As(serverErr, test.serverAs) {
				t.Errorf("server: %v; want %T", serverErr, test.serverAs)
			}
		})
	}
}
