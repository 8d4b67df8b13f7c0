package testserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// requestTimeout is for one question to one server; who asks asks again.
const requestTimeout = 2 * time.Second

// A response is what a server answered, read to its end.
type response struct {
	status int
	body   []byte
}

// ok returns an error that shows the answer, unless its status is one of those given.
func (r response) ok(status ...int) error {
	if slices.Contains(status, r.status) {
		return nil
	}
	return fmt.Errorf("%d %s: %s", r.status, http.StatusText(r.status), bytes.TrimSpace(r.body))
}

// request asks node n. Connections aren't kept: the node may be another process by the next time.
func (c *Cluster) request(ctx context.Context, n *node, method, path string, body any) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return response{}, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url(n)+path, content)
	if err != nil {
		return response{}, err
	}
	if c.token != "" {
		req.Header.Set("X-Consul-Token", c.token)
	}
	transport := &http.Transport{TLSClientConfig: c.tls.Clone(), DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return response{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return response{status: resp.StatusCode, body: text}, err
}
