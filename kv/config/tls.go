package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/spf13/pflag"
)

// TLS says how a client secures its connections. The zero value is a
// connection without TLS.
type TLS struct {
	// Enabled turns TLS on. Without it no other field may be set, MinVersion
	// excepted: who names a certificate doesn't expect a plain connection.
	Enabled bool `yaml:"enabled"`

	// CAFile is a PEM file with the certificates of the authorities that the
	// server's certificate must come from. Empty: those that the operating
	// system trusts. Like the two files below, it is read again for each
	// connection, so it may be replaced.
	CAFile string `yaml:"ca_file"`

	// CertFile and KeyFile are PEM files with the client's certificate, any
	// intermediate ones after it, and its private key, not encrypted; they may
	// be one file. Both or neither are set.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`

	// ServerName is the name that the server's certificate must be for. Empty:
	// the host that the client connects to.
	ServerName string `yaml:"server_name"`

	// InsecureSkipVerify accepts any certificate, and so anybody who poses as
	// the server. For tests only.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`

	// MinVersion is the lowest version of TLS to accept: "1.2", the default if
	// empty, or "1.3".
	MinVersion string `yaml:"min_version"`
}

// RegisterFlags adds a flag for every field to fs: prefix, "tls." and the
// field's name in YAML with dashes, such as --etcd.tls.ca-file for the prefix
// "etcd.". The defaults are t's present values.
func (t *TLS) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	prefix += "tls."
	fs.BoolVar(&t.Enabled, prefix+"enabled", t.Enabled, "connect with TLS, as an address that begins with https:// does anyway")
	fs.StringVar(&t.CAFile, prefix+"ca-file", t.CAFile, "PEM file with the authorities that certify the server, read again for each connection; empty: those of the system")
	fs.StringVar(&t.CertFile, prefix+"cert-file", t.CertFile, "PEM file with the client's certificate, read again for each connection; takes key-file too; empty: none")
	fs.StringVar(&t.KeyFile, prefix+"key-file", t.KeyFile, "PEM file with the private key, not encrypted, of the certificate in cert-file; empty: none")
	fs.StringVar(&t.ServerName, prefix+"server-name", t.ServerName, "name that the server's certificate must be for; empty: that of the host connected to")
	fs.BoolVar(&t.InsecureSkipVerify, prefix+"insecure-skip-verify", t.InsecureSkipVerify, "accept any certificate, and so anybody who poses as the server; for tests only")
	fs.StringVar(&t.MinVersion, prefix+"min-version", t.MinVersion, "lowest version of TLS to accept: 1.2 or 1.3; empty: 1.2")
}

// Validate reports the first wrong field with what is allowed, on one line. It
// reads the files. The field is named by its path in YAML, which begins with
// field, such as "etcd.tls"; an empty one leaves the bare names. No error holds
// anything of the private key.
func (t TLS) Validate(field string) error {
	_, err := t.load(field)
	return err
}

// Load returns the configuration for crypto/tls, nil if TLS is not enabled. It
// reads the files and fails as Validate does.
//
// The client's certificate and key are read again at every handshake, so a
// renewed pair is used from the next connection on. While they can't be read
// or don't match, as may happen in the middle of a renewal, the last good pair
// stays in use; once that has expired, handshakes fail with the reason. CAFile
// is read only here; see [TLS.Renewing].
//
// The result belongs to the caller, who may change it before the first use.
func (t TLS) Load() (*tls.Config, error) { return t.load("tls") }

func (t TLS) load(field string) (*tls.Config, error) {
	if !t.Enabled {
		return nil, t.checkUnused(field)
	}
	version, err := t.minVersion()
	if err != nil {
		return nil, inField(field, "min_version", err)
	}
	c := &tls.Config{
		MinVersion:         version,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify,
	}
	if t.CAFile != "" {
		c.RootCAs, err = readAuthorities(t.CAFile)
		if err != nil {
			return nil, inField(field, "ca_file", err)
		}
	}
	switch {
	case t.CertFile != "" && t.KeyFile == "":
		return nil, inField(field, "key_file", errors.New("is empty, but cert_file is set; set both, or neither"))
	case t.CertFile == "" && t.KeyFile != "":
		return nil, inField(field, "cert_file", errors.New("is empty, but key_file is set; set both, or neither"))
	case t.CertFile != "":
		pair := &keyPair{field: field, certFile: t.CertFile, keyFile: t.KeyFile}
		if err := pair.refresh(); err != nil {
			return nil, err
		}
		c.GetClientCertificate = pair.forHandshake
	}
	return c, nil
}

// checkUnused reports a field that would be ignored.
func (t TLS) checkUnused(field string) error {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"ca_file", t.CAFile != ""},
		{"cert_file", t.CertFile != ""},
		{"key_file", t.KeyFile != ""},
		{"server_name", t.ServerName != ""},
		{"insecure_skip_verify", t.InsecureSkipVerify},
	} {
		if f.set {
			return inField(field, f.name, errors.New("is set, but TLS is not enabled; set enabled: true as well, or remove it"))
		}
	}
	if _, err := t.minVersion(); err != nil {
		return inField(field, "min_version", err)
	}
	return nil
}

func (t TLS) minVersion() (uint16, error) {
	switch t.MinVersion {
	case "", "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf(`%q is not allowed; it must be "1.2" or "1.3"`, t.MinVersion)
}

func readAuthorities(file string) (*x509.CertPool, error) {
	data, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	return authorities(file, data)
}

func authorities(file string, data []byte) (*x509.CertPool, error) {
	certs, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; it must be a PEM file with certificates", file, err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool, nil
}

// inField puts the path of a field before an error about it.
func inField(field, name string, err error) error {
	if field != "" {
		name = field + "." + name
	}
	return fmt.Errorf("%s: %w", name, err)
}
