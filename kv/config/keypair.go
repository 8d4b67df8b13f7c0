package config

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"sync"
	"time"
)

// keyPair is a certificate and its key, kept up to date with their files.
type keyPair struct {
	field             string // for errors
	certFile, keyFile string

	mu                sync.Mutex
	certData, keyData []byte // what current was made from
	current           *tls.Certificate
}

// forHandshake is a tls.Config's GetClientCertificate.
func (p *keyPair) forHandshake(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.refresh(); err != nil && time.Now().After(p.current.Leaf.NotAfter) {
		return nil, err
	}
	return p.current, nil
}

// refresh reads the files and, if either has changed, replaces the current
// pair. It compares contents, which costs nothing beside a handshake; a file
// that is written in place can keep its size and, for a moment, its time. After
// an error the current pair is what it was.
func (p *keyPair) refresh() error {
	certData, err := readPEM(p.certFile)
	if err != nil {
		return inField(p.field, "cert_file", err)
	}
	keyData, err := readPEM(p.keyFile)
	if err != nil {
		return inField(p.field, "key_file", err)
	}
	if p.current != nil && bytes.Equal(certData, p.certData) && bytes.Equal(keyData, p.keyData) {
		return nil
	}
	certs, err := parseCertificates(certData)
	if err != nil {
		return inField(p.field, "cert_file", fmt.Errorf("%s: %w; it must be a PEM file with the client's certificate", p.certFile, err))
	}
	pair, err := tls.X509KeyPair(certData, keyData)
	if err != nil { // which tells nothing of the key itself
		return inField(p.field, "key_file", fmt.Errorf("%s: %w; it must be a PEM file with the private key, not encrypted, of the certificate in %s", p.keyFile, err, p.certFile))
	}
	pair.Leaf = certs[0] // it isn't set everywhere, see x509keypairleaf in GODEBUG
	p.current, p.certData, p.keyData = &pair, certData, keyData
	return nil
}
