package consul

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/kv/driver"
)

// Use returns a store over a client of the program's own, with its connections,
// token, namespace and whatever stands between. Of cfg it takes what is about
// requests: Root, Consistency, WaitTime and MaxValueSize. Closing the store
// leaves the client as it is.
//
// What depends on connections of our own is not promised then: a write counts
// as not sent only if no connection could be made, so more outcomes are
// unknown; if the client's transport sends requests again, or passes a proxy
// that does, a write may be applied twice (C7); tokens and certificates are
// read again only if the client does so; and a store that is set back while no
// answer shows it is noticed later.
func Use(client *api.Client, cfg Config) (driver.Store, error) {
	if client == nil {
		return nil, errors.New("consul: the client is nil")
	}
	if err := cfg.Validate(); err != nil {
		return nil, errors.New("consul: " + err.Error())
	}
	cfg.Namespace, cfg.Partition, cfg.Datacenter = "", "", "" // the client's
	s := newStore(cfg)
	s.use(client)
	return s, nil
}

// doAsHost makes one request with the program's own client.
func doAsHost[R any](closed, ctx context.Context, request func(ctx context.Context) (R, error)) (result R, sent bool, err error) {
	if closed.Err() != nil {
		return result, false, driver.ErrClosed
	}
	a := &attempt{}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { a.answered = time.Now() }})
	result, err = request(context.WithValue(ctx, attemptKey{}, a))
	err = asStatus(err)
	var op *net.OpError
	return result, !errors.As(err, &op) || op.Op != "dial", err
}

// noEndpoint returns an error if an answer about absent keys has no index: then
// it was not Consul's key-value store that answered 404. Our own transport
// looks at that by itself.
func noEndpoint(about *api.QueryMeta) error {
	if about.LastIndex == 0 {
		return &statusError{code: http.StatusNotFound}
	}
	return nil
}

// asStatus turns the errors that Consul's client makes of answers into the
// one that the rest of this package knows. That of a transaction has no code.
func asStatus(err error) error {
	var status api.StatusError
	if errors.As(err, &status) {
		return &statusError{code: status.Code, text: status.Body}
	}
	if err == nil {
		return nil
	}
	text, isTxn := strings.CutPrefix(err.Error(), "Failed request: ")
	switch {
	case !isTxn:
		return err
	case isDenial(strings.TrimPrefix(text, forwarded)):
		return &statusError{code: http.StatusForbidden, text: text}
	case strings.HasPrefix(text, "Request body") && strings.Contains(text, "too large"):
		return &statusError{code: http.StatusRequestEntityTooLarge, text: text}
	}
	return &statusError{code: http.StatusInternalServerError, text: text}
}
