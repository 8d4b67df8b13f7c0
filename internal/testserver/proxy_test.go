//go:build unix

package testserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/polykv/polykv/internal/testserver"
)

// echo serves connections by saying back what they say, and returns its address.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

func proxyTo(t *testing.T, target string) *testserver.Proxy {
	t.Helper()
	p, err := testserver.NewProxy(target)
	check(t, err)
	t.Cleanup(p.Close) // before the target's own, which waits for its connections
	return p
}

func connect(t *testing.T, p *testserver.Proxy) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(limited(t), "tcp", p.Addr())
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func say(t *testing.T, conn net.Conn, what string) {
	t.Helper()
	_, err := io.WriteString(conn, what)
	check(t, err)
}

func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	check(t, conn.SetReadDeadline(time.Now().Add(limit)))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("heard %q, %v; want %q", got, err, want)
	}
}

// silent wants nothing to be heard for a moment. That is evidence only together with what is heard later.
func silent(t *testing.T, conn net.Conn) {
	t.Helper()
	check(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("heard %d bytes, %v; want silence", n, err)
	}
}

func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	check(t, conn.SetReadDeadline(time.Now().Add(limit)))
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("heard %d bytes, %v; want the end of the connection", n, err)
	}
}

func TestProxyPass(t *testing.T) {
	p := proxyTo(t, echo(t))
	conn := connect(t, p)
	say(t, conn, "hello")
	hear(t, conn, "hello")
	check(t, conn.(*net.TCPConn).CloseWrite())
	closed(t, conn)
	until(t, func() error {
		if got, want := p.Stats(), (testserver.ProxyStats{Accepted: 1, ToServer: 5, ToClient: 5}); got != want {
			return fmt.Errorf("stats %+v; want %+v", got, want)
		}
		return nil
	})
}

// reset wants the connection to end by a reset.
func reset(t *testing.T, conn net.Conn) {
	t.Helper()
	check(t, conn.SetReadDeadline(time.Now().Add(limit)))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("heard %d bytes, %v; want a reset", n, err)
	}
}

func TestProxyHalfOpen(t *testing.T) {
	p := proxyTo(t, echo(t))
	old := connect(t, p)
	say(t, old, "1")
	hear(t, old, "1")
	p.HalfOpen()
	p.HalfOpen() // is once
	say(t, old, "2")
	silent(t, old)
	fresh := connect(t, p)
	say(t, fresh, "3")
	hear(t, fresh, "3")
	check(t, p.Heal())
	say(t, old, "4")
	silent(t, old)
	open := func(n int64) {
		t.Helper()
		until(t, func() error {
			if s := p.Stats(); s.Open != n {
				return fmt.Errorf("stats %+v; want %d open", s, n)
			}
			return nil
		})
	}
	open(2)
	check(t, old.Close())
	open(1)
	say(t, fresh, "5")
	hear(t, fresh, "5")
}

func TestProxyReset(t *testing.T) {
	p := proxyTo(t, echo(t))
	conn := connect(t, p)
	say(t, conn, "1")
	hear(t, conn, "1")
	p.Reset()
	reset(t, conn)
	conn = connect(t, p)
	say(t, conn, "2")
	hear(t, conn, "2")

	// One proxy's reset is handed on by another in front of it.
	front := proxyTo(t, p.Addr())
	conn = connect(t, front)
	say(t, conn, "3")
	hear(t, conn, "3")
	p.Reset()
	reset(t, conn)
}

func TestProxySwallowResponses(t *testing.T) {
	p := proxyTo(t, echo(t))
	idle, conn := connect(t, p), connect(t, p)
	say(t, idle, "first")
	hear(t, idle, "first")

	p.SwallowResponses()
	say(t, conn, "lost")
	until(t, func() error {
		if s := p.Stats(); s.Swallowed != 4 {
			return fmt.Errorf("stats %+v; want 4 bytes swallowed", s)
		}
		return nil
	})
	silent(t, conn)

	check(t, p.Heal())
	closed(t, conn) // what it would say next has a hole before it
	say(t, idle, "second")
	hear(t, idle, "second")
}

func TestProxyHang(t *testing.T) {
	p := proxyTo(t, echo(t))
	before := connect(t, p)
	say(t, before, "1")
	hear(t, before, "1")

	p.Hang()
	after := connect(t, p)
	say(t, before, "2")
	say(t, after, "2")
	silent(t, before)
	silent(t, after)
	if s := p.Stats(); s.ToServer != 1 || s.ToClient != 1 {
		t.Errorf("stats %+v; want one byte each way", s)
	}
	check(t, p.Heal())
	hear(t, before, "2")
	hear(t, after, "2")
}

func TestProxyCut(t *testing.T) {
	p := proxyTo(t, echo(t))
	conn := connect(t, p)
	say(t, conn, "1")
	hear(t, conn, "1")
	p.Cut()
	closed(t, conn)
	if conn, err := (&net.Dialer{}).DialContext(limited(t), "tcp", p.Addr()); err == nil {
		_ = conn.Close()
		t.Error("connected through a cut")
	}
	check(t, p.Heal())
	conn = connect(t, p)
	say(t, conn, "2")
	hear(t, conn, "2")
	p.Close()
	closed(t, conn)
	p.Close()
	check(t, p.Heal()) // nothing to heal
	if conn, err := (&net.Dialer{}).DialContext(limited(t), "tcp", p.Addr()); err == nil {
		_ = conn.Close()
		t.Error("connected to a closed proxy")
	}
}

// TestProxyLostAnswer makes what the proxy is for: a write that is applied and whose answer never comes.
func TestProxyLostAnswer(t *testing.T) {
	k := kinds[0]
	c := k.cluster(t, testserver.Options{NoFsync: true})
	p := proxyTo(t, c.Endpoints()[0])
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{p.Addr()}, DialTimeout: limit, Logger: zap.NewNop()})
	check(t, err)
	defer func() { _ = client.Close() }()
	_, err = client.Put(limited(t), "key", "1")
	check(t, err)

	p.SwallowResponses()
	ctx, cancel := context.WithCancel(limited(t))
	answer := make(chan error, 1)
	go func() {
		_, err := client.Put(ctx, "key", "2")
		answer <- err
	}()
	until(t, func() error {
		if got, err := k.get(limited(t), c, 0, "key"); err != nil || got != "2" {
			return fmt.Errorf("beside the proxy: %q, %v; want 2", got, err)
		}
		return nil
	})
	cancel()
	if err := <-answer; err == nil {
		t.Error("the answer came through")
	}
	check(t, p.Heal())
	r, err := client.Get(limited(t), "key")
	check(t, err)
	if got := string(r.Kvs[0].Value); got != "2" {
		t.Errorf("after healing: %q; want 2", got)
	}
}
