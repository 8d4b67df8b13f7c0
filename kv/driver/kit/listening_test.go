package kit

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/polykv/polykv/internal/testserver/certs"
)

// broken is a connection whose server refused the certificate, or that ended otherwise.
type broken struct {
	net.Conn
	read, write error
}

func (c *broken) Read([]byte) (int, error)  { return 1, c.read }
func (c *broken) Write([]byte) (int, error) { return 2, c.write }

func TestRefusalIsHeard(t *testing.T) {
	refusal := &net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}
	for name, test := range map[string]struct {
		read, write, want error
		isRead            bool
		wait              time.Duration
	}{
		"nothing wrong":        {nil, nil, nil, false, 0},
		"refused":              {refusal, io.ErrClosedPipe, refusal, true, 0},
		"another end":          {io.EOF, io.ErrClosedPipe, io.ErrClosedPipe, true, 0},
		"another alert":        {&net.OpError{Op: "remote error", Err: errors.New("tls: internal error")}, io.ErrClosedPipe, io.ErrClosedPipe, true, 0},
		"not an alert":         {&net.OpError{Op: "read", Err: errors.New("certificate")}, io.ErrClosedPipe, io.ErrClosedPipe, true, 0},
		"nobody reads":         {refusal, io.ErrClosedPipe, io.ErrClosedPipe, false, 100 * time.Millisecond},
		"written all the same": {refusal, nil, nil, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var heard []error
				conn := HearRefusal(&broken{read: test.read, write: test.write}, func(err error) { heard = append(heard, err) })
				if test.isRead {
					for range 2 {
						if n, err := conn.Read(nil); n != 1 || err != test.read { //nolint:errorlint // the very error
							t.Errorf("read %d, %v", n, err)
						}
					}
					if len(heard) != 1 || heard[0] != test.read { //nolint:errorlint // the very error
						t.Errorf("heard %v, want the first read's end, %v", heard, test.read)
					}
				}
				start := time.Now()
				n, err := conn.Write(nil)
				if took := time.Since(start); n != 2 || err != test.want || took != test.wait { //nolint:errorlint // the very error
					t.Errorf("write: %d, %v after %v; want %v after %v", n, err, took, test.want, test.wait)
				}
			})
		})
	}
	if _, err := HearRefusal(&broken{read: io.EOF}, nil).Read(nil); err != io.EOF { //nolint:errorlint // the very error
		t.Errorf("with nobody to tell: %v", err)
	}
}

func TestHandshake(t *testing.T) {
	authority, err := certs.NewAuthority(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Server("server")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.Load()
	if err != nil {
		t.Fatal(err)
	}
	for name, trusted := range map[string]*tls.Config{
		"trusted": {RootCAs: authority.Pool(), ServerName: "localhost"},
		"unknown": {ServerName: "localhost"},
	} {
		l := listen(t, "tcp", "127.0.0.1:0").l
		served := make(chan error, 1)
		go func() {
			theirs, err := l.Accept()
			if err != nil {
				served <- err
				return
			}
			defer func() { _ = theirs.Close() }()
			conn := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{cert}})
			_, err = conn.Write([]byte("x"))
			served <- err
		}()
		ours, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn, err := Handshake(t.Context(), ours, trusted, time.Minute)
		if err != nil {
			if name != "unknown" || conn != nil || !RefusedCertificate(err) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := ours.Write(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: the connection is open: %v", name, err)
			}
			<-served //nolint:errcheck // what it was told tells the other end
			continue
		}
		if name == "unknown" {
			t.Error("an unknown certificate passes")
		}
		b := make([]byte, 1)
		if _, err := conn.Read(b); err != nil || string(b) != "x" {
			t.Errorf("%q, %v", b, err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		_ = ours.Close()
	}
}

func TestHandshakeHasALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		start := time.Now()
		_, err := Handshake(t.Context(), ours, &tls.Config{ServerName: "a"}, time.Second)
		if took := time.Since(start); err == nil || took != time.Second {
			t.Errorf("%v after %v", err, took)
		}
		if _, err := ours.Write(nil); !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection is open: %v", err)
		}
	})
}
