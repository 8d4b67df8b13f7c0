package consul

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/kv/driver"
)

// serving returns a store whose server is handler.
func serving(t testing.TB, handler http.HandlerFunc, change func(*Config)) *store {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	cfg := DefaultConfig()
	cfg.Address = l.Addr().String()
	change(&cfg)
	return openStore(t, cfg)
}

// answering is a server that gives everybody the same answer.
func answering(t testing.TB, code int, body string) (s *store, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	return serving(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}, func(*Config) {}), requests
}

// echo is a server that passes on the headers of requests.
func echo(t testing.TB, change func(*Config)) (*store, <-chan http.Header) {
	t.Helper()
	headers := make(chan http.Header, 10)
	return serving(t, func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header }, change), headers
}

// What an answer that isn't a result proves about a write. Answers of real
// servers are in the tests beside this; the texts are those of Consul 1.13.
func TestWhatAnswersProve(t *testing.T) {
	for _, test := range []struct {
		code    int
		body    string
		outcome driver.Outcome
		is      error // nil: to be tried again
	}{
		{500, "No cluster leader", driver.NotApplied, nil},
		{500, "rpc error making call: No cluster leader", driver.NotApplied, nil},
		{500, "rpc error making call: rpc error making call: raft apply failed: node is not the leader", driver.NotApplied, nil},
		{500, "rpc error getting client: failed to get conn: dial tcp 127.0.0.1:0->127.0.0.1:8300: connect: connection refused", driver.NotApplied, nil},
		{500, "raft apply failed: leadership transfer in progress", driver.NotApplied, nil},
		{500, "No path to datacenter", driver.NotApplied, nil},
		{500, "raft apply failed: leadership lost while committing log", driver.Unknown, nil},
		{500, "leadership lost while committing log", driver.Unknown, nil},
		{500, "rpc error making call: leadership lost while committing log", driver.Unknown, nil},
		{500, "raft apply failed: snapshot restored while committing log", driver.Unknown, nil},
		{500, "raft apply failed: raft is already shutdown", driver.Unknown, nil},
		{500, `raft apply failed: unable to store logs within log store, err: "write /data/raft/raft.db: no space left on device"`, driver.NotApplied, driver.ErrFull},
		{500, `rpc error making call: raft apply failed: unable to store logs within log store, err: "file resize error: truncate /data/raft/raft.db: disk quota exceeded"`, driver.NotApplied, driver.ErrFull},
		{500, `raft apply failed: unable to store logs within log store, err: "no space left on device"`, driver.Unknown, driver.ErrFull},
		{500, `raft apply failed: unable to store logs within log store, err: "write /data/raft/raft.db: input/output error"`, driver.Unknown, nil},
		{500, "no space left on device", driver.Unknown, driver.ErrFull},
		{500, "rpc error making call: EOF", driver.Unknown, nil},
		{500, "rpc error making call: i/o deadline reached", driver.Unknown, nil},
		{500, "somebody says No cluster leader", driver.Unknown, nil},
		{500, "", driver.Unknown, nil},
		{502, "Bad Gateway", driver.Unknown, nil},
		{503, "rate limit exceeded for operation that can only be performed by the leader, try again later", driver.NotApplied, nil},
		{503, "Service Unavailable", driver.Unknown, nil},
		{429, "", driver.NotApplied, nil},
		{408, "Request Timeout", driver.Unknown, nil},
		{404, "Invalid URL path", driver.NotApplied, driver.ErrNotSupported},
		{403, "Permission denied", driver.NotApplied, driver.ErrPermission},
		{403, "rpc error making call: ACL not found", driver.NotApplied, driver.ErrPermission},
		{413, "Request body too large", driver.NotApplied, driver.ErrTooLarge},
		{307, "Temporary Redirect", driver.Unknown, nil},
		{200, "<html>Log in</html>", driver.Unknown, nil},
		{200, `{"Results":[{"KV":{"Key":"k","Mod`, driver.Unknown, nil},
		{409, `{"Errors":[{"OpIndex":0,"What":"failed to set key \"k\", index is stale"}]}`, driver.Conflict, nil},
		{409, `{"Errors":[{"OpIndex":0,"What":"Permission denied"}]}`, driver.NotApplied, driver.ErrPermission},
		{409, `{"Errors":[{"OpIndex":0,"What":"something else about a key, index is stale"}]}`, driver.NotApplied, nil},
		{409, `{"Errors":[{"OpIndex":0,"What":"unknown KV verb \"cas\""}]}`, driver.NotApplied, driver.ErrNotSupported},
		{409, `{"Errors":[]}`, driver.NotApplied, nil},
	} {
		s, requests := answering(t, test.code, test.body)
		res, err := s.Swap(drivertest.WithTimeout(t, time.Minute), driver.Swap{Key: "k", Value: []byte("v"), ID: 1})
		if res.Outcome != test.outcome || (err == nil) != (test.outcome == driver.Conflict) {
			t.Errorf("%d %s: %v, %v; want %v", test.code, test.body, res.Outcome, err, test.outcome)
		}
		if test.is != nil && !errors.Is(err, test.is) || test.is == nil && driver.IsPermanent(err) {
			t.Errorf("%d %s: %v; want %v", test.code, test.body, err, test.is)
		}
		if n := requests.Load(); n != 1 {
			t.Errorf("%d %s: sent %d times", test.code, test.body, n)
		}
		if _, err := s.Get(drivertest.WithTimeout(t, time.Minute), driver.GetRequest{Key: "k"}); err == nil {
			t.Errorf("%d %s: a get succeeds", test.code, test.body)
		}
		if _, err := s.Scan(drivertest.WithTimeout(t, time.Minute), driver.ScanRequest{Prefix: "k"}); err == nil {
			t.Errorf("%d %s: a scan succeeds", test.code, test.body)
		}
	}
}
