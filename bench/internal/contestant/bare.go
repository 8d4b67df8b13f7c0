package contestant

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/bench/workload"
)

// Bare opens Consul through its vendor's client on nothing but a connection,
// for one caller at a time. What it takes longer than that, a client owes to
// all that makes it a client: a pool, limits of time, an end for each call.
func Bare(t workload.Target) (workload.Store, error) {
	if t.Backend != "consul" {
		return nil, fmt.Errorf("there is no bare client of backend %q", t.Backend)
	}
	return &rawStore{open: func() (rawClient, error) {
		conn, err := net.Dial("tcp", t.Endpoints[0])
		if err != nil {
			return nil, err
		}
		c := &connection{conn: conn, in: bufio.NewReader(conn)}
		client, err := api.NewClient(&api.Config{Address: t.Endpoints[0], HttpClient: &http.Client{Transport: c}})
		if err != nil {
			return nil, err
		}
		return &rawConsul{client: client, close: func() { _ = conn.Close() }}, nil
	}}, nil
}

// connection is an http.RoundTripper that writes a request and reads its answer
// on the goroutine of the caller.
type connection struct {
	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
	out  bytes.Buffer
}

func (c *connection) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.Reset()
	if err := r.Write(&c.out); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(c.out.Bytes()); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.in, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, err
}
