package consul

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
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

// sinceAnswer returns how long ago the answer to ctx's request began, 0 if that
// isn't known.
func sinceAnswer(ctx context.Context) time.Duration {
	if a := attemptOf(ctx); !a.answered.IsZero() {
		return time.Since(a.answered)
	}
	return 0
}

// noticed returns a context for ctx's request in which sent is kept right over
// the connections that net/http tries: another one only if nothing was sent on
// the last, or for a GET.
func noticed(ctx context.Context) context.Context {
	sent := &attemptOf(ctx).sent
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { sent.Store(false) },
		WroteHeaders: func() { sent.Store(true) },
	})
}

// longestSilence is how long an answer may stand still once it has begun.
const longestSilence = 10 * time.Second

// idleTime is how long an unused connection is kept.
const idleTime = 90 * time.Second

// transport is the http.RoundTripper under the Consul client. It presents the
// token, and turns the answers that Consul's API doesn't have for such a
// request into a *statusError, since the client keeps little of them.
type transport struct {
	calls http.RoundTripper
	waits http.RoundTripper // for blocking queries, which would use up the connections of others
	lost  func()            // a server can't reach the others
	limit time.Duration     // for a connection and the head of an answer

	closed context.Context
	end    func()
}

// newTransport returns a transport that connects to the addresses of at.
func newTransport(closed context.Context, cfg Config, at endpoint, tls *config.Renewing, connected func()) *transport {
	dialer := &kit.Dialer{Timeout: cfg.DialTimeout, Connected: connected}
	calls := &http.Transport{
		MaxConnsPerHost:        cfg.MaxConns,
		MaxIdleConnsPerHost:    cfg.MaxConns,
		IdleConnTimeout:        idleTime,
		TLSHandshakeTimeout:    cfg.DialTimeout,
		MaxResponseHeaderBytes: 1 << 20,
		DisableCompression:     true,
	}
	dial := func(ctx context.Context) (*kit.Conn, error) {
		ctx, cancel := kit.Until(ctx, closed)
		defer cancel()
		return dialer.Dial(ctx, at.addresses)
	}
	calls.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if at.proxy == nil || addr == at.host {
			return conn(dial(ctx))
		}
		ctx, cancel := kit.Until(ctx, closed) // a proxy
		defer cancel()
		return conn(dialer.DialOne(ctx, kit.Address{Network: network, Target: addr}))
	}
	if at.secure {
		calls.TLSClientConfig = tls.ForAll(at.hostname()) // behind a proxy
		calls.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			raw, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			ctx, cancel := kit.Until(ctx, closed)
			defer cancel()
			return kit.Handshake(ctx, raw, tls.For(raw.Host()), cfg.DialTimeout)
		}
	}
	calls.Proxy = at.proxy
	waits := calls.Clone()
	waits.MaxConnsPerHost = 0
	waits.ResponseHeaderTimeout = cfg.answerTime()
	end := func() { calls.CloseIdleConnections(); waits.CloseIdleConnections() }
	return &transport{calls: calls, waits: waits, lost: connected, limit: cfg.answerTime() + 2*cfg.DialTimeout, closed: closed, end: end}
}

// conn leaves no nil *kit.Conn in an interface.
func conn(c *kit.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
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
	over := t.calls
	if strings.Contains(req.URL.RawQuery, "index=") { // no other parameter of the client ends so
		over = t.waits
	}
	resp, err := untilSilent(over, req, t.limit)
	if err != nil {
		return nil, err
	}
	a.answered = time.Now()
	if !expected(req, resp) {
		if resp.StatusCode >= http.StatusInternalServerError {
			t.lost()
		}
		return nil, newStatusError(resp)
	}
	return resp, nil
}

// untilSilent makes a request whose answer must begin within limit and not stand
// still for too long. Nearly all end sooner by themselves, and looking after each
// of their reads would take a tenth of what a small one costs.
func untilSilent(over http.RoundTripper, req *http.Request, limit time.Duration) (*http.Response, error) {
	if end, ok := req.Context().Deadline(); ok && time.Until(end) <= longestSilence {
		return over.RoundTrip(req)
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	defer time.AfterFunc(limit, func() { cancel(kit.ErrSilent) }).Stop()
	resp, err := over.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(err)
		return nil, err
	}
	resp.Body = kit.UntilSilent(resp.Body, longestSilence, func() { cancel(kit.ErrSilent) })
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
