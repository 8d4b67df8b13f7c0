package consul

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv/driver"
)

// attempt is one request. It is in the request's context, by which it passes
// through the Consul client.
type attempt struct {
	token    string
	sent     atomic.Bool // the head of the request may have left this process
	answered time.Time   // when the head of the answer was here
}

type attemptKey struct{}

// attemptOf returns the attempt that ctx belongs to.
func attemptOf(ctx context.Context) *attempt {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		return a
	}
	return new(attempt)
}

// sinceAnswer returns how long ago the answer to ctx's request began.
func sinceAnswer(ctx context.Context) time.Duration { return time.Since(attemptOf(ctx).answered) }

// transport is the http.RoundTripper under the Consul client. It presents the
// token, and turns the answers that Consul's API doesn't have for such a
// request into a *statusError, since the client keeps little of them.
type transport struct {
	connections
	closed context.Context
}

func newTransport(closed context.Context, cfg Config, at endpoint) *transport {
	dialer := net.Dialer{Timeout: cfg.DialTimeout}
	if at.tls != nil {
		at.tls = expecting(at.tls, at.host)
	}
	dial := func(ctx context.Context) (conn, raw net.Conn, err error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(closed, cancel)()
		raw, err = dialer.DialContext(ctx, at.network, at.dial)
		if err != nil || at.tls == nil {
			return raw, raw, err
		}
		conn, err = overTLS(ctx, raw, at.tls, cfg.DialTimeout)
		return conn, raw, err
	}
	return &transport{connections: connections{dial: dial, limit: cfg.answerTime(), max: cfg.MaxIdleConns}, closed: closed}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.closed.Err() != nil {
		return nil, driver.ErrClosed
	}
	a := attemptOf(req.Context())
	// In place, though a RoundTripper shouldn't: the Consul client makes a
	// header for each request and doesn't look at it again.
	req.Header.Del("X-Consul-Token")
	if a.token != "" {
		req.Header.Set("X-Consul-Token", a.token)
	}
	resp, err := t.connections.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	a.answered = time.Now()
	if !expected(req, resp) {
		return nil, newStatusError(resp)
	}
	return resp, nil
}

// expected reports whether resp is one that Consul's API has for req: 404
// stands for an absent key, 409 for a transaction that was rolled back.
func expected(req *http.Request, resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusOK:
		return true
	case http.StatusNotFound: // by the endpoint itself, not for want of one
		return req.Method == http.MethodGet && resp.Header.Get("X-Consul-Index") != ""
	case http.StatusConflict:
		return req.Method == http.MethodPut && strings.HasSuffix(req.URL.Path, "/v1/txn")
	}
	return false
}

// statusError is an answer that isn't a result.
type statusError struct {
	code int
	text string // of the answer's body
}

func (e *statusError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("Consul answered %d %s", e.code, http.StatusText(e.code))
	}
	return fmt.Sprintf("Consul answered %d: %s", e.code, e.text)
}

// newStatusError consumes and closes resp.
func newStatusError(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	const enough = 4 << 10
	body, err := io.ReadAll(io.LimitReader(resp.Body, enough))
	if err != nil && len(body) == 0 {
		body = []byte(err.Error())
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, enough)) // so that the connection can be used again
	text := strings.Join(strings.Fields(string(body)), " ")
	return &statusError{code: resp.StatusCode, text: text}
}
