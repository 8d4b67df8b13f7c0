package consul

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// rawHTTP returns what reaches a server with TLS.
func rawHTTP(t *testing.T, c *testserver.Cluster) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: c.TLSConfig()}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Of several addresses the first in reach is used, and another once it is gone.
func TestSeveralAddresses(t *testing.T) {
	one, two := servertest.Proxy(t, single.Get(t).Endpoints()[0]), servertest.Proxy(t, single.Get(t).Endpoints()[0])
	cfg := DefaultConfig()
	cfg.Address = strings.Join([]string{drivertest.Unused(t), one.Addr(), two.Addr()}, ",")
	s, p := openStore(t, cfg), drivertest.Unique(t)+"/"
	drivertest.Put(t, s, p+"k", "1")
	if one.Stats().Accepted == 0 || two.Stats().Accepted > 0 {
		t.Errorf("%d and %d connections", one.Stats().Accepted, two.Stats().Accepted)
	}
	before := s.Epoch()
	one.Cut()
	drivertest.Eventually(t, func() error {
		_, err := s.Get(t.Context(), driver.GetRequest{Key: p + "k"})
		return err
	})
	if two.Stats().Accepted == 0 {
		t.Error("the last address was not used")
	}
	if s.Epoch() == before {
		t.Error("a lost connection is not another epoch")
	}
}

// A client has no more connections than it may, beside one for each watch.
func TestConnectionsAreBounded(t *testing.T) {
	proxy := servertest.Proxy(t, single.Get(t).Endpoints()[0])
	cfg := DefaultConfig()
	cfg.Address, cfg.MaxConns = proxy.Addr(), 3
	s, p := openStore(t, cfg), drivertest.Unique(t)+"/"
	const watches = 5
	for i := range watches {
		follow(t, s, driver.Range{Key: p + strconv.Itoa(i)}).IsSynced(t)
	}
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() { drivertest.Put(t, s, p+strconv.Itoa(i), "v") })
	}
	all.Wait()
	// Twice as many, since one that broke or was idle for long is replaced; without a bound there are 45.
	if n := proxy.Stats().Accepted; n > int64(2*(cfg.MaxConns+watches)) {
		t.Errorf("%d connections for %d watches", n, watches)
	}
}

// An agent that takes no more connections is waited for.
func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	const most = 20
	c := servertest.Consul(t, testserver.Options{Args: []string{"-hcl", "limits { http_max_conns_per_client = " + strconv.Itoa(most) + " }"}})
	others := make([]net.Conn, most)
	for i := range others {
		drivertest.Eventually(t, func() (err error) { // one that has just been closed counts for a moment
			others[i], err = admitted(c.Endpoints()[0])
			return err
		})
		defer others[i].Close()
	}
	s := openStore(t, configFor(c))
	drivertest.Eventually(t, func() error {
		res, err := s.Swap(drivertest.WithTimeout(t, 5*time.Second), driver.Swap{Key: "k", Value: []byte("v"), ID: 1})
		if res.Outcome != driver.NotApplied || driver.IsPermanent(err) || !strings.Contains(err.Error(), "429") {
			return fmt.Errorf("%v, %w", res.Outcome, err)
		}
		return nil
	})
	refused := make(chan error, 1)
	client := kv.New(openStore(t, configFor(c)), codec.String{}, nil)
	go func() {
		refused <- client.CAS(t.Context(), "k", func(any) (any, bool, error) {
			return "v", true, nil
		})
	}()
	select {
	case err := <-refused:
		t.Fatalf("while there is no room: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	for _, conn := range others {
		_ = conn.Close()
	}
	if err := <-refused; err != nil {
		t.Error(err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// admitted returns a connection that an agent has answered a request on.
func admitted(address string) (net.Conn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := ask(conn, address); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// ask makes a request on a connection that stays open.
func ask(conn net.Conn, address string) error {
	if _, err := fmt.Fprintf(conn, "GET /v1/status/leader HTTP/1.1\r\nHost: %s\r\n\r\n", address); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// Through a proxy, too.
func TestCertificatesAreReplaced(t *testing.T) {
	c := mutual.Get(t)
	drivertest.CertificatesAreReplaced(t, c, func(tls config.TLS) []driver.Store {
		cfg := mutualConfig(c, c.ClientCert())
		cfg.TLS = tls
		through := cfg
		if err := through.Proxy.Set(newForwarder(t).url); err != nil {
			t.Fatal(err)
		}
		return []driver.Store{openStore(t, cfg), openStore(t, through)}
	})
}

// A root is before every key, and nobody sees it or what is outside.
func TestRoot(t *testing.T) {
	all, p := openShared(t)
	for _, root := range []string{p + "app/", "/" + p, p + "//odd/../", p + "no slash"} {
		t.Run(root, func(t *testing.T) {
			cfg := configFor(single.Get(t))
			cfg.Root = kit.Root(root)
			s := openStore(t, cfg)
			drivertest.Put(t, all, root[:len(root)-1]+"!outside", "x")
			keys, one := follow(t, s, driver.Range{IsPrefix: true}), follow(t, s, driver.Range{Key: "a/b"})
			keys.IsSynced(t)
			if events := keys.Events(); len(events) != 1 {
				t.Errorf("more than Synced: %+v", events)
			}
			guard := drivertest.Put(t, s, "guard", "g")
			e := drivertest.Put(t, s, "a/b", "1")
			res := drivertest.Swap(t, s, driver.Swap{Key: "a/b", Prev: e, Value: []byte("2"), Guards: []driver.Guard{{Key: "guard", Version: guard.Version}}}, driver.Applied)
			if res.Entry.Key != "a/b" {
				t.Errorf("swap: %+v", res.Entry)
			}
			got, err := s.Get(t.Context(), driver.GetRequest{Key: "a/b", Guards: []driver.Guard{{Key: "guard", Version: guard.Version}}})
			if err != nil || string(got.Value) != "2" || got.Key != "a/b" {
				t.Errorf("guarded get: %+v, %v", got, err)
			}
			one.Sees(t, map[string]string{"a/b": "2"})
			keys.Sees(t, map[string]string{"a/b": "2", "guard": "g"})
			for _, keysOnly := range []bool{true, false} {
				page, err := s.Scan(t.Context(), driver.ScanRequest{Prefix: "a", KeysOnly: keysOnly})
				if err != nil || len(page.Entries) != 1 || page.Entries[0].Key != "a/b" {
					t.Errorf("scan: %+v, %v", page.Entries, err)
				}
			}
			if e := drivertest.Get(t, all, root+"a/b"); string(e.Value) != "2" {
				t.Errorf("outside it is %+v", e)
			}
			drivertest.Remove(t, s, "a/b")
			one.Sees(t, map[string]string{})
		})
	}
}

// A transaction with a root fits as one without.
func TestRootIsCounted(t *testing.T) {
	cfg := configFor(single.Get(t))
	cfg.Root = kit.Root(strings.Repeat("r", 200) + drivertest.Unique(t))
	s := openStore(t, cfg)
	key := strings.Repeat("k", 512)
	guard := drivertest.Put(t, s, "guard", "g")
	w := driver.Swap{Key: key, Value: make([]byte, s.Limits().GuardedValue), Guards: []driver.Guard{{Key: "guard", Version: guard.Version}}}
	drivertest.Swap(t, s, w, driver.Applied)
	w = driver.Swap{Key: key + "2", Value: make([]byte, s.Limits().Value)}
	w.Key = key[1:] + "2"
	drivertest.Swap(t, s, w, driver.Applied)
}

// The question whether a listing is complete doesn't wait for a change.
func TestProbeDoesNotWait(t *testing.T) {
	waited := make(chan bool, 10)
	s := serving(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Index", "7")
		switch {
		case !r.URL.Query().Has("recurse"):
			waited <- r.URL.Query().Has("index")
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Query().Get("index") == "7":
			time.Sleep(10 * time.Millisecond)
			_, _ = w.Write([]byte("[]"))
		default:
			_, _ = w.Write([]byte("[]"))
		}
	}, func(*Config) {})
	follow(t, s, driver.Range{Key: "p", IsPrefix: true})
	for range 3 {
		if <-waited {
			t.Fatal("the probe waits like a watch")
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A request without an end of its own ends when its answer doesn't begin, or
// stands still; one that ends by itself is left alone.
func TestRequestsEnd(t *testing.T) {
	const answers, forever = time.Minute, 24 * time.Hour
	for name, test := range map[string]struct {
		head, body, end time.Duration // end: of the request by itself, 0 for none
		lasts           time.Duration
		want            error
	}{
		"no head":                  {forever, 0, 0, answers, kit.ErrSilent},
		"late head":                {answers - 1, 0, 0, answers - 1, nil},
		"no body":                  {time.Second, forever, 0, time.Second + longestSilence, kit.ErrSilent},
		"late body":                {time.Second, longestSilence - 1, 0, longestSilence - 1 + time.Second, nil},
		"no head, an end":          {forever, 0, 8 * time.Second, 8 * time.Second, context.DeadlineExceeded},
		"no body, an end":          {time.Second, forever, 8 * time.Second, 8 * time.Second, context.DeadlineExceeded},
		"no body, a distant end":   {time.Second, forever, time.Hour, time.Second + longestSilence, kit.ErrSilent},
		"late body, a distant end": {time.Second, longestSilence - 1, time.Hour, longestSilence - 1 + time.Second, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, start := context.Background(), time.Now()
				if test.end > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.end)
					defer cancel()
				}
				wait := func(ctx context.Context, d time.Duration) error {
					select {
					case <-time.After(d):
						return nil
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://consul/v1/kv/k", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := untilSilent(roundTripper(func(req *http.Request) (*http.Response, error) {
					if err := wait(req.Context(), test.head); err != nil {
						return nil, err
					}
					r, w := io.Pipe()
					go func() { _ = w.CloseWithError(wait(req.Context(), test.body)) }()
					return &http.Response{Body: r}, nil
				}), req, answers)
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					if err := resp.Body.Close(); err != nil {
						t.Error(err)
					}
				}
				if took := time.Since(start); !errors.Is(err, test.want) || took != test.lasts {
					t.Errorf("%v after %v, want %v after %v", err, took, test.want, test.lasts)
				}
			})
		})
	}
}

// A request costs little more than one of Consul's own client: what bounds its
// time is the caller's.
func TestAllocations(t *testing.T) {
	s, p := openShared(t)
	raw := rawClient(t, single.Get(t)).KV()
	drivertest.Put(t, s, p+"k", "v")
	ctx := drivertest.WithTimeout(t, longestSilence)
	var err error
	theirs := testing.AllocsPerRun(200, func() {
		_, _, err = raw.Get(p+"k", (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	})
	if err != nil {
		t.Fatal(err)
	}
	ours := testing.AllocsPerRun(200, func() { _, err = s.Get(ctx, driver.GetRequest{Key: p + "k"}) })
	if err != nil || ours > theirs+10 {
		t.Errorf("a Get takes %v allocations, of Consul's client %v; %v", ours, theirs, err)
	}
}
