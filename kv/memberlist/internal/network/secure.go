package network

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// Streams are sealed by TLS 1.3, between certificates that nobody knows: TLS
// alone tells no member from a man in the middle. So both sides prove that they
// have a key of the cluster by a MAC over the channel binding "tls-exporter"
// (RFC 9266), which differs on the two sides of whoever ends TLS in between, and
// in every session. What the MAC begins with tells the sides apart: a proof
// can't be sent back to its maker.
const (
	roleOpener   = "polykv gossip stream 2, opener"
	roleAcceptor = "polykv gossip stream 2, acceptor"
	proofSize    = sha256.Size

	tlsHandshake = 22 // the first byte of a TLS stream
)

func prove(key []byte, role string, binding, hello []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(role))
	mac.Write(binding) // of one length
	mac.Write(hello)
	return mac.Sum(nil)
}

// newTLS returns the configuration of both sides. Nothing is resumed: tickets
// would outlive keys, and streams are kept open.
func newTLS() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		Certificates:                []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
		InsecureSkipVerify:          true, // the proofs stand in for it
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}, nil
}

// bind shakes hands and returns the channel binding. The connection's deadline
// bounds it.
func bind(conn *tls.Conn) ([]byte, error) {
	if err := conn.Handshake(); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	state := conn.ConnectionState()
	return state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
}
