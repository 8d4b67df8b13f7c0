package consul

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
)

// forwarder is an HTTP proxy. It forgets the answer to a write and sends it once
// more, if it is told to.
type forwarder struct {
	url     string
	passed  atomic.Int64 // requests and tunnels
	replays atomic.Bool
}

func newForwarder(t *testing.T) *forwarder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{url: "http://" + l.Addr().String()}
	onward := &http.Transport{}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.passed.Add(1)
		if r.Method == http.MethodConnect {
			tunnel(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		send := func() (*http.Response, error) {
			again := r.Clone(r.Context())
			again.Body, again.RequestURI = io.NopCloser(bytes.NewReader(body)), ""
			return onward.RoundTrip(again)
		}
		if f.replays.Load() && r.Method == http.MethodPut {
			if resp, err := send(); err == nil {
				_ = resp.Body.Close()
			}
		}
		resp, err := send()
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done; onward.CloseIdleConnections() })
	return f
}

// tunnel answers CONNECT.
func tunnel(w http.ResponseWriter, r *http.Request) {
	server, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer server.Close()
	w.WriteHeader(http.StatusOK)
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(server, buffered); _ = server.Close() }()
	_, _ = io.Copy(client, server)
	_ = client.Close()
	<-done
}

// A proxy may send a write twice. What the second one meets is the first.
func TestProxyThatRepeatsWrites(t *testing.T) {
	direct, p := openShared(t)
	f := newForwarder(t)
	cfg := configFor(single.Get(t))
	cfg.Proxy = config.NewSecret(f.url)
	s := openStore(t, cfg)
	f.replays.Store(true)
	for name, size := range map[string]int{"in a transaction": 10, "by PUT": 500 << 10} {
		key := p + name
		made := drivertest.Swap(t, s, driver.Swap{Key: key, Value: make([]byte, size), ID: 11}, driver.Applied)
		if !made.Known || made.Entry.Version != drivertest.Get(t, direct, key).Version {
			t.Errorf("%s: %+v", name, made)
		}
		drivertest.Swap(t, s, driver.Swap{Key: key, Prev: made.Entry, Value: []byte("2"), ID: 12}, driver.Applied)
		// One that others made is still one.
		other := drivertest.Put(t, direct, key, "3")
		lost := drivertest.Swap(t, s, driver.Swap{Key: key, Prev: made.Entry, Value: []byte("4"), ID: 13}, driver.Conflict)
		if !lost.Known || lost.Entry.Version != other.Version || string(lost.Entry.Value) != "3" {
			t.Errorf("%s: conflict with %+v", name, lost.Entry)
		}
		// A removal leaves nothing to tell it by.
		drivertest.Swap(t, s, driver.Swap{Key: key, Prev: other, Remove: true, ID: 14}, driver.Unknown)
		if e := drivertest.Get(t, direct, key); e.Exists() {
			t.Errorf("%s: %+v is still there", name, e)
		}
	}
	if f.passed.Load() == 0 {
		t.Error("nothing passed the proxy")
	}
}

// TLS goes through a tunnel, with a certificate authority that is replaced.
func TestTLSThroughAProxy(t *testing.T) {
	c := mutual.Get(t)
	f := newForwarder(t)
	cfg := mutualConfig(c, c.ClientCert())
	cfg.Proxy = config.NewSecret(f.url)
	s, p := openStore(t, cfg), drivertest.Unique(t)+"/"
	drivertest.Put(t, s, p+"k", "v")
	watch := follow(t, s, driver.Range{Key: p, IsPrefix: true})
	watch.Sees(t, map[string]string{p + "k": "v"})
	if f.passed.Load() == 0 {
		t.Error("nothing passed the proxy")
	}
}

// The environment says who passes a proxy only if it is asked. It is read once
// in a process, so the test has one of its own.
func TestProxyOfTheEnvironment(t *testing.T) {
	if os.Getenv("NO_PROXY") != "inside.example" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyOfTheEnvironment$", "-test.v")
		child.Env = append(os.Environ(), "HTTP_PROXY=http://proxy.example:3128", "HTTPS_PROXY=http://proxy.example:3128", "NO_PROXY=inside.example")
		if out, err := child.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestProxyOfTheEnvironment") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	for name, test := range map[string]struct {
		address, proxy string
		want           bool
	}{
		"not asked":   {"consul.example:8500", "", false},
		"asked":       {"consul.example:8500", "environment", true},
		"asked, TLS":  {"https://consul.example:8501", "environment", true},
		"left out":    {"inside.example:8500", "environment", false},
		"of its own":  {"inside.example:8500", "http://other.example:1", true},
		"this server": {"127.0.0.1:8500", "environment", false},
	} {
		cfg := DefaultConfig()
		cfg.Address, cfg.Proxy = test.address, config.NewSecret(test.proxy)
		at, err := cfg.endpoint()
		if err != nil || at.proxied() != test.want {
			t.Errorf("%s: %v, %v", name, at.proxied(), err)
		}
		if at.proxied() && test.proxy != "environment" {
			if u, err := at.proxy(&http.Request{URL: &url.URL{Scheme: "http", Host: at.host}}); err != nil || u.String() != test.proxy {
				t.Errorf("%s: %v, %v", name, u, err)
			}
		}
	}
}
