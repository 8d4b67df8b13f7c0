package kit

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"
)

// server is a listener that may be gone.
type server struct {
	t  *testing.T
	at Address
	l  net.Listener
}

func listen(t *testing.T, network, address string) *server {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t, Address{Network: network, Target: l.Addr().String()}, l}
	t.Cleanup(s.end)
	return s
}

func (s *server) end() { _ = s.l.Close() }

// serves reports whether conn leads to s, and closes it.
func (s *server) serves(conn *Conn, err error) bool {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	_ = conn.Close()
	return conn.RemoteAddr().String() == s.at.Target
}

func TestDialBeginsWithWhatWorkedLast(t *testing.T) {
	connected := 0
	d := &Dialer{Connected: func() { connected++ }}
	a, b, c := listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "127.0.0.1:0")
	all := []Address{a.at, b.at, c.at}
	for i, step := range []struct {
		gone *server
		want *server
	}{{nil, a}, {a, b}, {nil, b}, {b, c}} {
		if step.gone != nil {
			step.gone.end()
		}
		if conn, err := d.Dial(t.Context(), all); !step.want.serves(conn, err) {
			t.Errorf("step %d leads to %v, want %v", i, conn.RemoteAddr(), step.want.at)
		}
	}
	again, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", a.at.Target)
	if err != nil {
		t.Skip(err) // somebody else has the port now
	}
	a.l = again
	if !c.serves(d.Dial(t.Context(), all)) {
		t.Error("another one than that which worked last")
	}
	if c.end(); !a.serves(d.Dial(t.Context(), all)) || connected != 6 {
		t.Errorf("from the last one it doesn't go on with the first, or %d connections were told, want 6", connected)
	}
	a.end()
	conn, err := d.Dial(t.Context(), all)
	var failed *net.OpError
	if conn != nil || !errors.As(err, &failed) || failed.Addr.String() != c.at.Target || connected != 6 {
		t.Errorf("when all are gone: %v, want an error of the last", err)
	}
	if _, err := (&Dialer{}).Dial(t.Context(), nil); err != nil {
		t.Errorf("of no address: %v", err)
	}
}

func TestDialOfNothingMore(t *testing.T) {
	over, end := context.WithCancel(t.Context())
	end()
	a := listen(t, "tcp", "127.0.0.1:0")
	if conn, err := (&Dialer{}).Dial(over, []Address{a.at, a.at}); conn != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("ctx is over: %v", err)
	}
}

func TestHosts(t *testing.T) {
	if a := listen(t, "tcp", "127.0.0.1:0"); !a.serves((&Dialer{}).DialOne(t.Context(), a.at)) {
		t.Error("another server")
	}
	for host, a := range map[string]Address{
		"127.0.0.1": listen(t, "tcp", "127.0.0.1:0").at,
		"localhost": listen(t, "unix", filepath.Join(t.TempDir(), "s")).at,
	} {
		conn, err := (&Dialer{}).DialOne(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		if conn.Host() != host {
			t.Errorf("%v: a certificate must be for %s, want %s", a, conn.Host(), host)
		}
		_ = conn.Close()
	}
}

func TestServiceRecords(t *testing.T) {
	a, gone := listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "127.0.0.1:0")
	gone.end()
	_, port, _ := net.SplitHostPort(a.at.Target)
	_, gonePort, _ := net.SplitHostPort(gone.at.Target)
	names(t, map[string][]string{
		"both.test.": {"both.test. 60 IN SRV 2 1 " + port + " localhost.", "both.test. 60 IN SRV 1 1 " + gonePort + " localhost."},
		"gone.test.": {"gone.test. 60 IN SRV 1 1 " + gonePort + " localhost."},
		"none.test.": {"none.test. 60 IN TXT none"},
	})
	if _, got, err := (Address{Network: "srv", Target: "both.test"}).Targets(t.Context()); err != nil || !slices.Equal(got, []string{"localhost:" + gonePort, "localhost:" + port}) {
		t.Errorf("%q, %v", got, err)
	}
	srv := func(name string) Address { return Address{Network: "srv", Target: name} }
	d := &Dialer{}
	conn, err := d.DialOne(t.Context(), srv("both.test"))
	if !a.serves(conn, err) || conn.Host() != "localhost" {
		t.Errorf("connected to %v as %s", conn.RemoteAddr(), conn.Host())
	}
	var failed *net.OpError
	if _, err := d.DialOne(t.Context(), srv("gone.test")); !errors.As(err, &failed) || failed.Op != "dial" {
		t.Errorf("nobody there: %v", err)
	}
	for _, name := range []string{"none.test", "unknown.test"} {
		var notFound *net.DNSError
		if conn, err := d.DialOne(t.Context(), srv(name)); conn != nil || !errors.As(err, &notFound) || !notFound.IsNotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	over, end := context.WithCancel(t.Context())
	end()
	if conn, err := d.DialOne(over, srv("both.test")); conn != nil || err == nil {
		t.Errorf("ctx is over: %v, %v", conn, err)
	}
}

// names has a name server of this process answer until the test ends.
func names(t *testing.T, answers map[string][]string) {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started, done := make(chan struct{}), make(chan struct{})
	s := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		m.Authoritative = true
		known, ok := answers[r.Question[0].Name]
		if !ok {
			m.Rcode = dns.RcodeNameError
		}
		for _, text := range known {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
			} else if rr.Header().Rrtype == r.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { defer close(done); _ = s.ActivateAndServe() }()
	<-started
	before := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	t.Cleanup(func() { net.DefaultResolver = before; _ = s.Shutdown(); <-done })
}

// What a server says before it is asked waits for a request.
func TestRefusalBeforeARequest(t *testing.T) {
	for name, speak := range map[string]func(*Conn) error{
		"a write": func(c *Conn) error { n, err := c.Write([]byte("ask")); return errors.Join(err, lengths(n, 3)) },
		"Close":   (*Conn).Close,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				c := &Conn{Conn: ours, target: "a:1", spoken: make(chan struct{})}
				done := make(chan error, 1)
				go func() {
					b := make([]byte, 9)
					n, err := c.Read(b)
					done <- errors.Join(err, lengths(n, 4))
				}()
				if _, err := theirs.Write([]byte("gone")); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if len(done) > 0 {
					t.Error("the refusal was read before a request")
				}
				go func() { _, _ = io.ReadFull(theirs, make([]byte, 3)) }()
				if err := errors.Join(speak(c), <-done); err != nil {
					t.Error(err)
				}
				_ = c.Close()
				if _, err := c.Read(nil); !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("read after Close: %v", err)
				}
				if _, err := ours.Write(nil); !errors.Is(err, io.ErrClosedPipe) {
					t.Errorf("open after Close: %v", err)
				}
				_ = theirs.Close()
			})
		})
	}
}

func lengths(got, want int) error {
	if got != want {
		return errors.New("another length")
	}
	return nil
}
