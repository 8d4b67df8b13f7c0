package tlspeer_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"github.com/polykv/polykv/internal/tlspeer"
)

func TestRefused(t *testing.T) {
	for err, want := range map[error]bool{
		&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}:          true,
		tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}: false,
		os.ErrDeadlineExceeded: false,
	} {
		if tlspeer.Refused(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}
