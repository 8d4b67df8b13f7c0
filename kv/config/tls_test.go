package config_test

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/polykv/polykv/kv/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	key := newKey(t)
	certText, _ := ca.issue(t, "client", &key.PublicKey, time.Hour)
	keyText := keyPEM(t, key)
	caFile := write(t, dir, "ca.pem", ca.pem())
	certFile := write(t, dir, "cert.pem", "text around is fine\n"+certText+"\n"+ca.pem()+"and after")
	keyFile := write(t, dir, "key.pem", keyText)
	missing := filepath.Join(dir, "missing.pem")
	exchange, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name, content string) string { return write(t, dir, name, content) }
	cut := func(text string) string { return text[:len(text)*2/3] }
	closed := []byte("what a password opens")
	legacy := strings.Replace(toPEM("EC PRIVATE KEY", closed), "-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1)
	encrypted := toPEM("ENCRYPTED PRIVATE KEY", closed)

	authorities := func(file string) config.TLS { return config.TLS{Enabled: true, CAFile: file} }
	pair := func(cert, key string) config.TLS { return config.TLS{Enabled: true, CertFile: cert, KeyFile: key} }

	for name, test := range map[string]struct {
		tls  config.TLS
		want []string // parts of the error; none: valid
	}{
		"off":             {config.TLS{}, nil},
		"off, version":    {config.TLS{MinVersion: "1.3"}, nil},
		"system's":        {config.TLS{Enabled: true}, nil},
		"everything":      {config.TLS{true, caFile, certFile, keyFile, "server", false, "1.2"}, nil},
		"one file":        {pair(file("both.pem", keyText+certText), file("both.pem", keyText+certText)), nil},
		"several CAs":     {authorities(file("cas.pem", ca.pem()+newAuthority(t).pem())), nil},
		"off, CA":         {config.TLS{CAFile: caFile}, []string{"etcd.tls.ca_file: is set, but TLS is not enabled"}},
		"off, cert":       {config.TLS{CertFile: certFile}, []string{"etcd.tls.cert_file: is set, but TLS is not enabled"}},
		"off, key":        {config.TLS{KeyFile: keyFile}, []string{"etcd.tls.key_file: is set, but TLS is not enabled"}},
		"off, name":       {config.TLS{ServerName: "x"}, []string{"etcd.tls.server_name: is set, but TLS is not enabled"}},
		"off, insecure":   {config.TLS{InsecureSkipVerify: true}, []string{"etcd.tls.insecure_skip_verify: is set, but TLS is not enabled"}},
		"version":         {config.TLS{Enabled: true, MinVersion: "1.1"}, []string{`etcd.tls.min_version: "1.1" is not allowed; it must be "1.2" or "1.3"`}},
		"off, version 1":  {config.TLS{MinVersion: "1"}, []string{`etcd.tls.min_version: "1" is not allowed; it must be "1.2" or "1.3"`}},
		"CA missing":      {authorities(missing), []string{"etcd.tls.ca_file: ", missing, "no such file", "must be a PEM file"}},
		"CA a folder":     {authorities(dir), []string{"etcd.tls.ca_file: ", dir, "is a directory", "must be a PEM file"}},
		"CA empty":        {authorities(file("empty.pem", "")), []string{"etcd.tls.ca_file: ", "empty.pem: there is no certificate in it; it must be a PEM file with certificates"}},
		"CA not PEM":      {authorities(file("text.pem", "hello")), []string{"etcd.tls.ca_file: ", "text.pem: there is no certificate"}},
		"CA a key":        {authorities(keyFile), []string{"etcd.tls.ca_file: ", "key.pem: there is no certificate"}},
		"CA cut off":      {authorities(file("cutca.pem", ca.pem()+cut(ca.pem()))), []string{"etcd.tls.ca_file: ", "cutca.pem: a PEM block in it is damaged or cut off"}},
		"CA damaged":      {authorities(file("badca.pem", ca.pem()+toPEM("CERTIFICATE", []byte("x")))), []string{"etcd.tls.ca_file: ", "badca.pem: certificate 2 in it is not valid"}},
		"cert alone":      {config.TLS{Enabled: true, CertFile: certFile}, []string{"etcd.tls.key_file: is empty, but cert_file is set; set both, or neither"}},
		"key alone":       {config.TLS{Enabled: true, KeyFile: keyFile}, []string{"etcd.tls.cert_file: is empty, but key_file is set; set both, or neither"}},
		"cert missing":    {pair(missing, keyFile), []string{"etcd.tls.cert_file: ", missing, "no such file"}},
		"key missing":     {pair(certFile, missing), []string{"etcd.tls.key_file: ", missing, "no such file"}},
		"swapped":         {pair(keyFile, certFile), []string{"etcd.tls.cert_file: ", "key.pem: there is no certificate"}},
		"cert for key":    {pair(certFile, certFile), []string{"etcd.tls.key_file: ", "cert.pem: tls: failed to find PEM block with type ending in \"PRIVATE KEY\"", "it must be a PEM file with the private key, not encrypted, of the certificate in ", "cert.pem"}},
		"cert cut off":    {pair(file("cutcert.pem", cut(certText)), keyFile), []string{"etcd.tls.cert_file: ", "cutcert.pem: a PEM block"}},
		"key cut off":     {pair(certFile, file("cutkey.pem", cut(keyText))), []string{"etcd.tls.key_file: ", "cutkey.pem: tls: failed to find any PEM data in key input"}},
		"key damaged":     {pair(certFile, file("badkey.pem", toPEM("PRIVATE KEY", []byte(keyText)))), []string{"etcd.tls.key_file: ", "badkey.pem: tls: failed to parse private key"}},
		"key not TLS's":   {pair(certFile, file("x25519.pem", keyPEM(t, exchange))), []string{"etcd.tls.key_file: ", "x25519.pem: tls: found unknown private key type"}},
		"key encrypted":   {pair(certFile, file("enc.pem", encrypted)), []string{"etcd.tls.key_file: ", "enc.pem: tls: failed to parse private key; it must be a PEM file with the private key, not encrypted"}},
		"key encrypted 2": {pair(certFile, file("legacy.pem", legacy)), []string{"etcd.tls.key_file: ", "legacy.pem: tls: failed to parse private key; it must be a PEM file with the private key, not encrypted"}},
		"another key":     {pair(certFile, file("other.pem", keyPEM(t, newKey(t)))), []string{"etcd.tls.key_file: ", "other.pem: tls: private key does not match public key", "cert.pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.tls.Validate("etcd.tls")
			if len(test.want) == 0 {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil {
				t.Fatal("is valid")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want %q in it", err, part)
				}
			}
			if !strings.HasPrefix(err.Error(), test.want[0]) || strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line that begins with the field: %q", err)
			}
			checkNoKey(t, err, keyText)
			if c, loadErr := test.tls.Load(); c != nil || loadErr == nil || "etcd."+loadErr.Error() != err.Error() {
				t.Errorf("Load: %v, %v", c, loadErr)
			}
		})
	}
}

func TestValidateNames(t *testing.T) {
	broken := config.TLS{Enabled: true, CAFile: filepath.Join(t.TempDir(), "missing")}
	if err := broken.Validate(""); !strings.HasPrefix(err.Error(), "ca_file: ") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Every kind of key that crypto/tls takes, in every form that tools write.
func TestKinds(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecKey := newKey(t)
	ecDER, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		public any
		pem    string
	}{
		"RSA":               {&rsaKey.PublicKey, keyPEM(t, rsaKey)},
		"RSA as PKCS #1":    {&rsaKey.PublicKey, toPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))},
		"ECDSA":             {&ecKey.PublicKey, keyPEM(t, ecKey)},
		"ECDSA as SEC 1":    {&ecKey.PublicKey, toPEM("EC PARAMETERS", []byte("x")) + toPEM("EC PRIVATE KEY", ecDER)},
		"Ed25519":           {edKey.Public(), keyPEM(t, edKey)},
		"after CERTIFICATE": {&ecKey.PublicKey, ca.pem() + keyPEM(t, ecKey)},
	} {
		t.Run(name, func(t *testing.T) {
			certText, serial := ca.issue(t, "client", test.public, time.Hour)
			c, err := config.TLS{
				Enabled: true, CAFile: write(t, dir, "ca", ca.pem()), ServerName: "server",
				CertFile: write(t, dir, "cert", certText), KeyFile: write(t, dir, "key", test.pem),
			}.Load()
			if err != nil {
				t.Fatal(err)
			}
			cert, serverErr, clientErr := handshake(t, newServer(t, ca), c)
			if serverErr != nil || clientErr != nil || cert.SerialNumber.Int64() != serial {
				t.Errorf("%v, %v, %v", cert, serverErr, clientErr)
			}
		})
	}
}

// newServer is the configuration of a server of the name "server" that wants a certificate of ca from its clients.
func newServer(t *testing.T, ca *authority) *tls.Config {
	t.Helper()
	key := newKey(t)
	certText, _ := ca.issue(t, "server", &key.PublicKey, time.Hour)
	cert, err := tls.X509KeyPair([]byte(certText), []byte(keyPEM(t, key)))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, SessionTicketsDisabled: true,
	}
}

func TestLoadFields(t *testing.T) {
	ca := newAuthority(t)
	caFile := write(t, t.TempDir(), "ca.pem", ca.pem())
	otherFile := write(t, t.TempDir(), "other.pem", newAuthority(t).pem())
	server := newServer(t, ca)
	server.ClientAuth = tls.NoClientCert
	for name, test := range map[string]struct {
		tls        config.TLS
		maxVersion uint16
		want       string // a part of the client's error; empty: connected
	}{
		"good":             {config.TLS{Enabled: true, CAFile: caFile, ServerName: "server"}, 0, ""},
		"another name":     {config.TLS{Enabled: true, CAFile: caFile, ServerName: "else"}, 0, "not else"},
		"another CA":       {config.TLS{Enabled: true, CAFile: otherFile, ServerName: "server"}, 0, "unknown authority"},
		"system's CAs":     {config.TLS{Enabled: true, ServerName: "server"}, 0, "unknown authority"},
		"no verification":  {config.TLS{Enabled: true, CAFile: otherFile, ServerName: "else", InsecureSkipVerify: true}, 0, ""},
		"1.2 by default":   {config.TLS{Enabled: true, CAFile: caFile, ServerName: "server"}, tls.VersionTLS12, ""},
		"1.1 never":        {config.TLS{Enabled: true, CAFile: caFile, ServerName: "server"}, tls.VersionTLS11, "protocol version"},
		"1.2 is enough":    {config.TLS{Enabled: true, CAFile: caFile, ServerName: "server", MinVersion: "1.2"}, tls.VersionTLS12, ""},
		"1.3 is wanted":    {config.TLS{Enabled: true, CAFile: caFile, ServerName: "server", MinVersion: "1.3"}, tls.VersionTLS12, "protocol version"},
		"1.3 is available": {config.TLS{Enabled: true, CAFile: caFile, ServerName: "server", MinVersion: "1.3"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := test.tls.Load()
			if err != nil {
				t.Fatal(err)
			}
			if c.GetClientCertificate != nil || c.MinVersion == 0 {
				t.Errorf("%+v", c)
			}
			s := server.Clone()
			s.MinVersion, s.MaxVersion = tls.VersionTLS10, test.maxVersion
			_, _, err = handshake(t, s, c)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestLoadOff(t *testing.T) {
	if c, err := (config.TLS{}).Load(); c != nil || err != nil {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestFlags(t *testing.T) {
	c := config.TLS{CAFile: "from-yaml", MinVersion: "1.3"}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	c.RegisterFlags(flags, "etcd.")
	if c != (config.TLS{CAFile: "from-yaml", MinVersion: "1.3"}) {
		t.Errorf("registering changed the values: %+v", c)
	}
	if got := flags.Lookup("etcd.tls.ca-file").DefValue; got != "from-yaml" {
		t.Errorf("default %q", got)
	}
	err := flags.Parse([]string{
		"--etcd.tls.enabled", "--etcd.tls.ca-file=ca", "--etcd.tls.cert-file=cert", "--etcd.tls.key-file=key",
		"--etcd.tls.server-name=name", "--etcd.tls.insecure-skip-verify", "--etcd.tls.min-version=1.2",
	})
	if err != nil || c != (config.TLS{true, "ca", "cert", "key", "name", true, "1.2"}) {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestYAML(t *testing.T) {
	text := "enabled: true\nca_file: ca\ncert_file: cert\nkey_file: key\nserver_name: name\ninsecure_skip_verify: true\nmin_version: 1.3\n"
	var c config.TLS
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil || c != (config.TLS{true, "ca", "cert", "key", "name", true, "1.3"}) {
		t.Errorf("got %+v, %v", c, err)
	}
	back, err := yaml.Marshal(c)
	if want := strings.Replace(text, "1.3", `"1.3"`, 1); err != nil || string(back) != want {
		t.Errorf("got %s, %v", back, err)
	}
}
