package config

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
)

// Renewing is a TLS configuration whose files may be replaced while it is in
// use: each connection is made with what they hold at that time. While a file
// can't be read, as may happen in the middle of a renewal, what it held last
// stays in use. It may be used concurrently.
type Renewing struct {
	base   *tls.Config
	caFile string

	mu    sync.Mutex
	data  []byte // of the file that roots were made from
	roots *x509.CertPool
}

// Renewing returns t for as long as the program runs, nil if TLS is not
// enabled. It reads the files and fails as Validate does. roots, unless nil,
// take the place of the system's where CAFile is empty.
func (t TLS) Renewing(roots *x509.CertPool) (*Renewing, error) {
	base, err := t.Load()
	if base == nil || err != nil {
		return nil, err
	}
	if t.CAFile == "" {
		base.RootCAs = roots
	}
	return &Renewing{base: base, caFile: t.CAFile, roots: base.RootCAs}, nil
}

// For returns the configuration for the next connection to a server, whose
// certificate must be for host unless ServerName says otherwise. It belongs to
// the caller.
func (r *Renewing) For(host string) *tls.Config {
	c := r.base.Clone()
	c.RootCAs = r.current()
	c.ServerName = cmp.Or(c.ServerName, host)
	return c
}

// ForAll is For, for a library that keeps one configuration: authorities are
// read again at each of its connections.
func (r *Renewing) ForAll(host string) *tls.Config {
	c := r.For(host)
	if c.InsecureSkipVerify || r.caFile == "" {
		return c
	}
	c.InsecureSkipVerify = true // VerifyConnection does what crypto/tls would have done
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("the server has shown no certificate")
		}
		opts := x509.VerifyOptions{Roots: r.current(), DNSName: c.ServerName, Intermediates: x509.NewCertPool()}
		for _, cert := range s.PeerCertificates[1:] {
			opts.Intermediates.AddCert(cert)
		}
		if _, err := s.PeerCertificates[0].Verify(opts); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
		}
		return nil
	}
	return c
}

// current returns the authorities, nil for the system's. It compares contents,
// as keyPair does.
func (r *Renewing) current() *x509.CertPool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.caFile == "" {
		return r.roots
	}
	data, err := readPEM(r.caFile)
	if err != nil || bytes.Equal(data, r.data) {
		return r.roots
	}
	if roots, err := authorities(r.caFile, data); err == nil {
		r.roots, r.data = roots, data
	}
	return r.roots
}
