package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/polykv/polykv/internal/drivertest"
	"github.com/polykv/polykv/internal/testserver"
	"github.com/polykv/polykv/internal/testserver/servertest"
	"github.com/polykv/polykv/kv/driver"
	"github.com/polykv/polykv/kv/driver/kit"
)

// A client that began with one member lives on when that is gone.
func TestMembersAreLearned(t *testing.T) {
	t.Parallel()
	c := servertest.Etcd(t, testserver.Options{Nodes: 3, NoFsync: true})
	cfg := configFor(c)
	cfg.Endpoints, cfg.SyncInterval = c.Endpoints()[:1], 50*time.Millisecond
	s := open(t, cfg)
	drivertest.Put(t, s, "k", "1")
	drivertest.Eventually(t, func() error {
		if n := len(s.endpoints()); n != 3 {
			return fmt.Errorf("%d endpoints", n)
		}
		return nil
	})
	if err := c.Kill(0); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, func() error { // there is a leader again
		_, err := s.Get(drivertest.WithTimeout(t, 5*time.Second), driver.GetRequest{Key: "k"})
		return err
	})
	drivertest.Eventually(t, func() error {
		res, err := s.Swap(drivertest.WithTimeout(t, 5*time.Second), driver.Swap{Key: "other", Value: []byte("v"), ID: 1})
		if err == nil && res.Outcome != driver.Applied && res.Outcome != driver.Conflict {
			err = errors.New(res.Outcome.String())
		}
		return err
	})
}

// names makes this process look names up at a server of the test's.
func names(t *testing.T, answer func(q dns.Question) []string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		for _, text := range answer(r.Question[0]) {
			rr, err := dns.NewRR(text)
			if err != nil {
				t.Error(err)
				continue
			}
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	<-started
	nameServer.Store(conn.LocalAddr().String())
	t.Cleanup(func() { nameServer.Store(""); _ = server.Shutdown(); <-done })
}

// nameServer is where this process looks names up; empty: as ever.
var nameServer atomic.Value

// lookUpThere makes nameServer hold. It is called once, before anybody looks
// anything up.
func lookUpThere() {
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if at, _ := nameServer.Load().(string); at != "" {
			network, address = "udp", at
		}
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}}
}

// The targets of a service record are the endpoints; the first call finds them.
func TestServiceRecord(t *testing.T) {
	one, two := servertest.Proxy(t, single.Get(t).Endpoints()[0]), servertest.Proxy(t, single.Get(t).Endpoints()[0])
	names(t, func(q dns.Question) []string {
		switch {
		case q.Qtype == dns.TypeSRV && q.Name == "_etcd-client._tcp.example.test.":
			return []string{record(one), record(two)}
		case q.Qtype == dns.TypeA && q.Name == "node.example.test.":
			return []string{"node.example.test. 60 IN A 127.0.0.1"}
		}
		return nil
	})
	cfg := DefaultConfig()
	cfg.Endpoints = []string{"dnssrv+_etcd-client._tcp.example.test"}
	s, p := open(t, cfg), drivertest.Unique(t)+"/"
	drivertest.Put(t, s, p+"k", "v")
	drivertest.Eventually(t, func() error {
		drivertest.Get(t, s, p+"k")
		if one.Stats().Accepted == 0 || two.Stats().Accepted == 0 {
			return errors.New("one of the targets is not used")
		}
		return nil
	})

	cfg.Endpoints = []string{"dnssrv+_unknown._tcp.example.test"}
	res, err := open(t, cfg).Swap(drivertest.WithTimeout(t, 20*time.Second), driver.Swap{Key: p + "k", ID: 1})
	if res.Outcome != driver.NotApplied || err == nil || driver.IsPermanent(err) {
		t.Errorf("without a record: %v, %v", res.Outcome, err)
	}
}

func record(p *testserver.Proxy) string {
	_, port, _ := net.SplitHostPort(p.Addr())
	return "_etcd-client._tcp.example.test. 60 IN SRV 0 1 " + port + " node.example.test."
}

// All addresses of a name are endpoints.
func TestNameWithSeveralAddresses(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := first.Addr().(*net.TCPAddr).Port
	second, err := net.Listen("tcp", "127.0.0.2:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	var used [2]atomic.Int64
	for i, l := range []net.Listener{first, second} {
		passOn(t, l, single.Get(t).Endpoints()[0], &used[i])
	}
	names(t, func(q dns.Question) []string {
		if q.Qtype == dns.TypeA && q.Name == "etcd.example.test." {
			return []string{"etcd.example.test. 60 IN A 127.0.0.1", "etcd.example.test. 60 IN A 127.0.0.2"}
		}
		return nil
	})
	cfg := DefaultConfig()
	cfg.Endpoints = []string{"etcd.example.test:" + strconv.Itoa(port)}
	s, p := open(t, cfg), drivertest.Unique(t)+"/"
	drivertest.Put(t, s, p+"k", "v")
	drivertest.Eventually(t, func() error {
		drivertest.Get(t, s, p+"k")
		if used[0].Load() == 0 || used[1].Load() == 0 {
			return errors.New("one of the addresses is not used")
		}
		return nil
	})
	if host := s.discovery.host("127.0.0.2:" + strconv.Itoa(port)); host != "etcd.example.test" {
		t.Errorf("the certificate at an address must be for %q", host)
	}
}

// passOn connects who comes to l with target, and counts them.
func passOn(t *testing.T, l net.Listener, target string, count *atomic.Int64) {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			all.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
			all.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
}

// While the members can't be learned, those that were known are used beside the
// configured endpoints, and nothing else.
func TestMembersThatCannotBeLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answers []any // URLs, or an error
		asked, used := 0, [][]string{}
		d := &discovery{
			configured: []kit.Address{{Network: "tcp", Target: "10.0.0.1:1"}, {Network: "unix", Target: "/run/etcd"}, {Network: "tcp", Target: "10.0.0.1:1"}},
			sync:       time.Minute, logger: slog.New(slog.DiscardHandler), names: map[string]string{}, done: make(chan struct{}),
			use: func(endpoints ...string) { used = append(used, endpoints) },
			members: func(context.Context) ([]*pb.Member, error) {
				answer := answers[min(asked, len(answers)-1)]
				asked++
				if err, ok := answer.(error); ok {
					return nil, err
				}
				return []*pb.Member{{ClientURLs: answer.([]string)}, {ClientURLs: []string{"http://10.0.0.9:1"}, IsLearner: true}}, nil
			},
		}
		answers = []any{
			errors.New("nobody is there"),
			[]string{"http://10.0.0.2:1", "https://10.0.0.2:2", "http://10.0.0.1:1", "unix:///a"},
			errors.New("nobody is there"), errors.New("still nobody"), errors.New("still nobody"),
			[]string{"http://10.0.0.2:1"},
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); d.run(ctx) }()
		<-d.done
		time.Sleep(5*time.Minute + time.Second)
		cancel()
		<-done
		want := [][]string{
			{"10.0.0.1:1", "unix:///run/etcd"}, // as configured
			{"10.0.0.1:1", "10.0.0.2:1"},       // the members
			{"10.0.0.1:1", "10.0.0.2:1", "unix:///run/etcd"},
			{"10.0.0.2:1"},
		}
		if !slices.EqualFunc(used, want, slices.Equal) || asked != 6 {
			t.Errorf("asked %d times; used %q, want %q", asked, used, want)
		}
	})
}

func TestWhatIsAName(t *testing.T) {
	for text, want := range map[string]bool{
		"a.test:1": true, "dnssrv+a.test": true, "localhost:1": false, "10.0.0.1:1": false, "[::1]:1": false, "[fe80::1%eth0]:1": false, "unix:///a.test": false,
	} {
		a, err := endpointForms.Parse(text)
		if err != nil || isName(a) != want {
			t.Errorf("%s: %v, %v", text, !want, err)
		}
		for interval, needed := range map[time.Duration]bool{0: want, time.Second: true} {
			if d := (&discovery{configured: []kit.Address{a}, sync: interval}); d.needed() != needed {
				t.Errorf("%s, asking every %v: needed: %v", text, interval, !needed)
			}
		}
	}
}

// All addresses of names are endpoints, with the name for their certificates.
func TestNamesAreLookedUp(t *testing.T) {
	names(t, func(q dns.Question) []string {
		switch {
		case q.Qtype == dns.TypeSRV && q.Name == "_etcd._tcp.test.":
			return []string{"_etcd._tcp.test. 60 IN SRV 0 1 7 two.test.", "_etcd._tcp.test. 60 IN SRV 1 1 8 one.test."}
		case q.Qtype == dns.TypeA && q.Name == "two.test.":
			return []string{"two.test. 60 IN A 10.0.0.1", "two.test. 60 IN A 10.0.0.2"}
		case q.Qtype == dns.TypeA && q.Name == "one.test.":
			return []string{"one.test. 60 IN A 10.0.0.3"}
		}
		return nil
	})
	var log bytes.Buffer
	d := &discovery{names: map[string]string{}, logger: slog.New(slog.NewTextHandler(&log, nil))}
	for text, want := range map[string][]string{
		"dnssrv+_etcd._tcp.test": {"10.0.0.1:7", "10.0.0.2:7", "one.test:8"},
		"two.test:9":             {"10.0.0.1:9", "10.0.0.2:9"},
		"one.test:9":             {"one.test:9"},
		"unknown.test:9":         {"unknown.test:9"},
		"dnssrv+unknown.test":    nil,
	} {
		a, err := endpointForms.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		d.configured = []kit.Address{a}
		got := d.lookUp(t.Context())
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for endpoint, want := range map[string]string{"10.0.0.2:9": "two.test", "10.0.0.1:7": "two.test", "one.test:8": "one.test:8"} {
		if got := d.host(endpoint); got != want {
			t.Errorf("the certificate at %s must be for %s, want %s", endpoint, got, want)
		}
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "name=unknown.test") {
		t.Errorf("told: %s", text)
	}
}

func TestURLsOfMembers(t *testing.T) {
	members := []*pb.Member{{ClientURLs: []string{"http://a:1", "https://a:2", "odd"}}, {ClientURLs: []string{"unixs:///a", "https://b:2"}}, {ClientURLs: []string{"https://c:2"}, IsLearner: true}}
	for secure, want := range map[bool][]string{false: {"a:1"}, true: {"a:2", "b:2"}} {
		if got := (&discovery{secure: secure}).urls(members); !slices.Equal(got, want) {
			t.Errorf("secure: %v: %q, want %q", secure, got, want)
		}
	}
}

// Only who has service records alone waits for them to be looked up.
func TestWhoWaitsForNames(t *testing.T) {
	over, end := context.WithCancel(t.Context())
	end()
	for text, want := range map[string]bool{"dnssrv+a.test": true, "a.test:1": false, "": false} {
		synctest.Test(t, func(t *testing.T) {
			d := &discovery{done: make(chan struct{})}
			if a, err := endpointForms.Parse(text); err == nil {
				d.configured = []kit.Address{a}
			}
			d.wait(over) // which no ctx that is over does
			returned := false
			go func() { d.wait(context.Background()); returned = true }()
			synctest.Wait()
			if returned == want {
				t.Errorf("%q: waits: %v", text, !returned)
			}
			close(d.done)
		})
	}
}

// Names are looked up every 30 s, and members asked for no later than they shall be.
func TestHowOftenIsLooked(t *testing.T) {
	for sync, want := range map[time.Duration][2]int{0: {5, 0}, 10 * time.Second: {11, 10}, time.Hour: {5, 1}} {
		synctest.Test(t, func(t *testing.T) {
			asked, used, ip := 0, [][]string{}, 0
			d := &discovery{
				configured: []kit.Address{{Network: "tcp", Target: "10.0.0.1:1"}}, sync: sync,
				logger: slog.New(slog.DiscardHandler), names: map[string]string{}, done: make(chan struct{}),
				members: func(context.Context) ([]*pb.Member, error) { asked++; return nil, nil },
			}
			d.use = func(endpoints ...string) { // so the next look finds another one
				used, ip = append(used, endpoints), ip+1
				d.configured[0].Target = fmt.Sprintf("10.0.0.%d:1", ip+1)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 91*time.Second)
			defer cancel()
			d.run(ctx)
			if len(used) != want[0] || asked != want[1] || used[0][0] != "10.0.0.1:1" {
				t.Errorf("every %v: looked %d times, %q, asked %d times; want %v", sync, len(used), used, asked, want)
			}
		})
	}
}
