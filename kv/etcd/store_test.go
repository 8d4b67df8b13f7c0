package etcd

import (
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/polykv/polykv/internal/drivertest"
)

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etcd.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var forwarding sync.WaitGroup
	forwarding.Go(func() { forward(l, single.Get(t).Endpoints()[0], &forwarding) })
	t.Cleanup(func() { _ = l.Close(); forwarding.Wait() })
	cfg := DefaultConfig()
	cfg.Endpoints = []string{"unix://" + path}
	drivertest.Put(t, open(t, cfg), t.Name(), "v")
}

// forward hands every connection on to addr, until the listener closes.
func forward(l net.Listener, addr string, wg *sync.WaitGroup) {
	for {
		from, err := l.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", addr)
		if err != nil {
			_ = from.Close()
			continue
		}
		pump := func(dst, src net.Conn) {
			_, _ = io.Copy(dst, src)
			_ = dst.Close()
			_ = src.Close()
		}
		wg.Go(func() { pump(to, from) })
		wg.Go(func() { pump(from, to) })
	}
}
