package consul

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/internal/drivertest"
)

// scripted is a server over pipes. It calls answer with each request, whose
// body was read, and closes the connection when that returns false.
type scripted struct {
	connections
	dialled  atomic.Int64
	requests atomic.Int64
	ended    atomic.Int64 // connections
	answer   func(conn net.Conn, n int64, body string) bool
}

func newScripted(t *testing.T, answer func(conn net.Conn, n int64, body string) bool) *scripted {
	s := &scripted{answer: answer}
	s.limit, s.max = time.Minute, 2
	s.dial = func(context.Context) (net.Conn, net.Conn, error) {
		ours, theirs := net.Pipe()
		s.dialled.Add(1)
		go s.serve(theirs)
		return ours, ours, nil
	}
	t.Cleanup(s.close)
	return s
}

func (s *scripted) serve(conn net.Conn) {
	defer s.ended.Add(1)
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil || !s.answer(conn, s.requests.Add(1), string(body)) {
			return
		}
	}
}

// ask makes a request and reads its answer, unless there is an error.
func (s *scripted) ask(ctx context.Context, method string) (string, error) {
	var body io.Reader
	if method != http.MethodGet {
		body = strings.NewReader("written")
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://consul.test/v1/kv/k", body)
	if err != nil {
		return "", err
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	return string(read), err
}

func (s *scripted) mustAsk(t *testing.T, method, want string) {
	t.Helper()
	if got, err := s.ask(t.Context(), method); err != nil || got != want {
		t.Errorf("%s: %q, %v; want %q", method, got, err, want)
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func say(conn net.Conn, text string) bool {
	_, err := io.WriteString(conn, text)
	return err == nil
}

func TestConnectionIsUsedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		answer  string
		want    string
		dialled int64 // of 3 requests
	}{
		"length":     {ok, "ok", 1},
		"chunks":     {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok", 1},
		"no body":    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 1},
		"interim":    {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok, "ok", 1},
		"last":       {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "ok", 3},
		"HTTP/1.0":   {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", 3},
		"unasked":    {ok + "HTTP/1.1 200 OK\r\n\r\n", "ok", 3},
		"large head": {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\nContent-Length: 2\r\n\r\nok", "ok", 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t, func(conn net.Conn, _ int64, body string) bool { return body == "written" && say(conn, c.answer) })
			for range 3 {
				s.mustAsk(t, http.MethodPut, c.want)
			}
			if n := s.dialled.Load(); n != c.dialled {
				t.Errorf("%d connections for 3 requests, want %d", n, c.dialled)
			}
		})
	}
}

// What a server says of a TLS session after the handshake is not taken for the
// end of an idle connection.
func TestTLSConnectionIsUsedAgain(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	s := newScripted(t, nil)
	s.dial = func(ctx context.Context) (net.Conn, net.Conn, error) {
		var d net.Dialer
		raw, err := d.DialContext(ctx, "tcp", server.Listener.Addr().String())
		if err != nil {
			return nil, nil, err
		}
		s.dialled.Add(1)
		conn, err := overTLS(ctx, raw, expecting(&tls.Config{RootCAs: roots}, "example.com:1"), time.Minute)
		return conn, raw, err
	}
	for range 5 {
		s.mustAsk(t, http.MethodPut, "ok")
	}
	if n := s.dialled.Load(); n != 1 {
		t.Errorf("%d connections for 5 requests", n)
	}
}

// A request that may have arrived is not sent again by itself, unless it is a
// GET whose connection may have been closed before.
func TestBrokenRequestIsNotRepeated(t *testing.T) {
	for _, method := range []string{http.MethodPut, http.MethodGet} {
		s := newScripted(t, func(conn net.Conn, n int64, _ string) bool { return n == 2 && say(conn, ok) })
		a := &attempt{}
		_, err := s.ask(context.WithValue(t.Context(), attemptKey{}, a), method)
		if !errors.Is(err, errNoAnswer) || s.requests.Load() != 1 || !a.sent.Load() {
			t.Errorf("%s on a new connection: %v after %d requests, sent: %v", method, err, s.requests.Load(), a.sent.Load())
		}
		a = &attempt{}
		refused := errors.New("refused")
		s.dial = func(context.Context) (net.Conn, net.Conn, error) { return nil, nil, refused }
		if _, err := s.ask(context.WithValue(t.Context(), attemptKey{}, a), method); !errors.Is(err, refused) || a.sent.Load() {
			t.Errorf("%s without a connection: %v, sent: %v", method, err, a.sent.Load())
		}
	}
	s := newScripted(t, func(conn net.Conn, n int64, _ string) bool { return n != 2 && say(conn, ok) })
	s.mustAsk(t, http.MethodPut, "ok")
	if _, err := s.ask(t.Context(), http.MethodPut); !errors.Is(err, errNoAnswer) || s.requests.Load() != 2 {
		t.Errorf("a PUT on a used connection: %v after %d requests, want 2", err, s.requests.Load())
	}
	s = newScripted(t, func(conn net.Conn, n int64, _ string) bool { return n != 2 && say(conn, ok) })
	s.mustAsk(t, http.MethodPut, "ok")
	s.mustAsk(t, http.MethodGet, "ok")
	if s.requests.Load() != 3 || s.dialled.Load() != 2 {
		t.Errorf("a GET on a used connection: %d requests on %d connections", s.requests.Load(), s.dialled.Load())
	}
}

func TestRequestEndsWithItsContext(t *testing.T) {
	for name, begin := range map[string]string{
		"before the head": "",
		"within the head": "HTTP/1.1 200 OK\r\n",
		"within the body": "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScripted(t, func(conn net.Conn, n int64, _ string) bool {
					if n > 1 {
						return say(conn, ok)
					}
					_ = say(conn, begin)
					time.Sleep(time.Hour)
					return false
				})
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				start := time.Now()
				if _, err := s.ask(ctx, http.MethodPut); !errors.Is(err, context.Canceled) || time.Since(start) != time.Second {
					t.Errorf("after %v: %v", time.Since(start), err)
				}
				s.mustAsk(t, http.MethodPut, "ok")
				if n := s.dialled.Load(); n != 2 {
					t.Errorf("%d connections were made, want another one after the first was given up", n)
				}
				time.Sleep(2 * time.Hour) // until the server has noticed
			})
		})
	}
}

// An answer must begin in time. Then it may take as long as its context allows.
func TestAnswerMustBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t, func(conn net.Conn, n int64, _ string) bool {
			if n == 1 {
				_ = say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
				time.Sleep(time.Hour)
				return say(conn, "ok")
			}
			time.Sleep(time.Hour)
			return false
		})
		s.mustAsk(t, http.MethodGet, "ok")
		start := time.Now()
		if _, err := s.ask(t.Context(), http.MethodGet); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != s.limit {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if n := s.requests.Load(); n != 2 {
			t.Errorf("a request that took too long was sent %d times", n-1)
		}
		time.Sleep(2 * time.Hour)
	})
}

func TestEndlessHeadIsRefused(t *testing.T) {
	sent := 0
	s := newScripted(t, func(conn net.Conn, _ int64, _ string) bool {
		_ = say(conn, "HTTP/1.1 200 OK\r\n")
		for i := 0; say(conn, fmt.Sprintf("X-%d: %s\r\n", i, strings.Repeat("x", 1000))); i++ {
			sent += 1000
		}
		return false
	})
	if _, err := s.ask(t.Context(), http.MethodGet); err == nil {
		t.Error("it was read")
	}
	s.close()
	drivertest.Eventually(t, func() error {
		if s.ended.Load() == 0 {
			return errors.New("the server has not noticed")
		}
		return nil
	})
	if sent > 2*maxHead {
		t.Errorf("%d bytes were taken", sent)
	}
}

// Who doesn't read an answer to its end has the connection closed.
func TestUnreadAnswerEndsTheConnection(t *testing.T) {
	s := newScripted(t, func(conn net.Conn, n int64, _ string) bool {
		if n == 1 {
			return say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n") && say(conn, "ok")
		}
		return say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // all of it
	})
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://consul.test/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%d, %v read from a closed body", n, err)
		}
	}
	if n := s.dialled.Load(); n != 2 {
		t.Errorf("%d connections, want another one after the first", n)
	}
}

// A connection whose request was ended is not used again, even if the whole
// answer was here.
func TestEndedRequestEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t, func(conn net.Conn, _ int64, _ string) bool { return say(conn, ok) })
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://consul.test/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "ok" {
			t.Errorf("%q, %v", got, err)
		}
		_ = resp.Body.Close()
		s.mustAsk(t, http.MethodPut, "ok")
		if n := s.dialled.Load(); n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
	})
}

// A connection that the server has closed meanwhile is not written to.
func TestClosedConnectionIsNotUsed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newScripted(t, func(conn net.Conn, n int64, _ string) bool { return say(conn, ok) && n%2 == 0 })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	s.dial = func(ctx context.Context) (net.Conn, net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", l.Addr().String())
		s.dialled.Add(1)
		return conn, conn, err
	}
	s.mustAsk(t, http.MethodPut, "ok")
	drivertest.Eventually(t, s.noticed)
	s.mustAsk(t, http.MethodPut, "ok")
	s.mustAsk(t, http.MethodPut, "ok")
	if n := s.dialled.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// noticed is nil if the end of the one idle connection has come.
func (s *scripted) noticed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) != 1 || quiet(s.idle[0].raw) {
		return fmt.Errorf("%d connections are idle, and none is closed", len(s.idle))
	}
	return nil
}

// A server that reads no more than it wants to is heard.
func TestAnswerBeforeTheRequestIsRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 100))
			_ = say(conn, "HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 9\r\n\r\ntoo large")
			_ = conn.(*net.TCPConn).CloseRead()
			time.Sleep(10 * time.Millisecond) // with the rest of the request unread, the connection is reset
			_ = conn.Close()
		}
	}()
	s := &connections{limit: time.Minute, max: 1, dial: func(ctx context.Context) (net.Conn, net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", l.Addr().String())
		return conn, conn, err
	}}
	defer s.close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://consul.test/", strings.NewReader(strings.Repeat("x", 64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || string(text) != "too large" {
		t.Errorf("%d %q, %v", resp.StatusCode, text, err)
	}
}

// Idle connections are closed after a while, those above the limit at once,
// and all of them with the store.
func TestIdleConnectionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScripted(t, func(conn net.Conn, _ int64, _ string) bool {
			time.Sleep(time.Second) // so that others come meanwhile
			return say(conn, ok)
		})
		burst := func() {
			for range 5 {
				go func() { _, _ = s.ask(t.Context(), http.MethodGet) }()
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
		}
		want := func(dialled, open int64) {
			t.Helper()
			if d, o := s.dialled.Load(), s.dialled.Load()-s.ended.Load(); d != dialled || o != open {
				t.Errorf("%d connections were made and %d are open, want %d and %d", d, o, dialled, open)
			}
		}
		burst()
		want(5, 2)
		time.Sleep(idleTime / 2)
		s.mustAsk(t, http.MethodGet, "ok")
		want(5, 2)
		time.Sleep(3 * idleTime / 4)
		synctest.Wait()
		want(5, 1)
		time.Sleep(idleTime)
		synctest.Wait()
		want(5, 0)
		burst()
		want(10, 2)
		time.Sleep(2 * idleTime)
		synctest.Wait()
		want(10, 0)
		burst()
		s.close()
		synctest.Wait()
		want(15, 0)
		s.mustAsk(t, http.MethodGet, "ok") // one that was under way as the store was closed
		synctest.Wait()
		want(16, 0)
	})
}
