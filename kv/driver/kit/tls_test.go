package kit_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"github.com/polykv/polykv/kv/driver/kit"
)

func TestRefused(t *testing.T) {
	for err, want := range map[error]bool{
		&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}:          true,
		tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}: false,
		os.ErrDeadlineExceeded: false,
	} {
		if kit.RefusedCertificate(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}
