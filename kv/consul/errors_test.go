package consul

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/kv/driver"
)

func TestWrap(t *testing.T) {
	open, closeStore := context.WithCancel(t.Context())
	s := &store{base: open}
	over, end := context.WithCancel(t.Context())
	end()
	of := func(code int, text string) error {
		return &url.Error{Op: "Get", URL: "http://a:1/v1/kv/secret", Err: &statusError{code, text}}
	}
	txn := func(texts ...string) error {
		e := &txnError{}
		for _, text := range texts {
			e.TxnErrors = append(e.TxnErrors, &api.TxnError{What: text})
		}
		return e
	}
	refused := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	for _, test := range []struct {
		ctx       context.Context
		err, is   error
		permanent bool
		text      string // "": any
	}{
		{over, of(403, "ACL not found"), driver.ErrPermission, true, ""},
		{over, of(401, ""), driver.ErrPermission, true, ""},
		{t.Context(), errFiltered, driver.ErrPermission, true, ""},
		{t.Context(), txn("odd", "Permission denied"), driver.ErrPermission, true, ""},
		{t.Context(), txn("odd", `unknown KV verb "x"`), driver.ErrNotSupported, true, ""},
		{t.Context(), txn("one", "two", "three"), nil, false, "Consul rolled the transaction back: one; two; three"},
		{t.Context(), txn(), nil, false, "Consul rolled the transaction back"},
		{t.Context(), errNoTransactions, driver.ErrNotSupported, true, ""},
		{t.Context(), of(500, "write: no space left on device"), driver.ErrFull, true, ""},
		{t.Context(), of(499, "no space left on device"), nil, false, "Consul answered 499: no space left on device"},
		{over, of(500, "odd"), nil, false, "Consul answered 500: odd"}, // without the URL
		{t.Context(), of(502, ""), nil, false, "Consul answered 502 Bad Gateway"},
		{t.Context(), of(413, "large"), driver.ErrTooLarge, true, ""},
		{t.Context(), of(400, "odd"), nil, true, "Consul answered 400: odd"},
		{t.Context(), of(400, `Invalid query parameter: "ns" - ns is a Consul Enterprise feature`), driver.ErrNotSupported, true, ""},
		{over, io.EOF, context.Canceled, false, "context canceled: EOF"},
		{t.Context(), refused, refused, true, ""},
		{t.Context(), http.ErrSchemeMismatch, http.ErrSchemeMismatch, true, ""},
		{t.Context(), tls.RecordHeaderError{Msg: "odd"}, nil, true, ""},
		{t.Context(), io.EOF, io.EOF, false, "EOF"},
	} {
		err := s.wrap(test.ctx, fmt.Errorf("%w", test.err))
		if test.is != nil && !errors.Is(err, test.is) || driver.IsPermanent(err) != test.permanent || test.text != "" && err.Error() != test.text {
			t.Errorf("%v became %v, permanent: %v; want %v, %v", test.err, err, driver.IsPermanent(err), test.is, test.permanent)
		}
	}
	if err := s.wrap(over, nil); err != nil {
		t.Errorf("nothing became %v", err)
	}
	closeStore()
	if err := s.wrap(over, of(403, "")); err != driver.ErrClosed { //nolint:errorlint // the very error
		t.Errorf("of a closed store: %v", err)
	}
	if !notApplied(refused) || notApplied(io.EOF) || !notApplied(errNoTransactions) || !notApplied(txn()) {
		t.Error("what is sent is not told from what is not")
	}
}
