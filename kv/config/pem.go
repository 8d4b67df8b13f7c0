package config

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

func readPEM(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w; it must be a PEM file that this process may read", err)
	}
	return data, nil
}

// parseCertificates returns the certificates in data, at least one. Text around
// them is allowed, as in the output of openssl; a block that cannot be read is
// not, though pem.Decode would pass over it.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	unread := bytes.Count(data, []byte("-----BEGIN "))
	var certs []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		unread--
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in it is not valid: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	switch {
	case unread > 0:
		return nil, errors.New("a PEM block in it is damaged or cut off")
	case len(certs) == 0:
		return nil, errors.New("there is no certificate in it")
	}
	return certs, nil
}
