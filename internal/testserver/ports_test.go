package testserver

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Other programs take and leave ports of the same range all the time.
func TestProxyAmidOthersThatTakePorts(t *testing.T) {
	stop := make(chan struct{})
	var others sync.WaitGroup
	t.Cleanup(others.Wait)
	t.Cleanup(func() { close(stop) })
	for range 4 {
		others.Go(func() {
			var held []net.Listener
			for {
				select {
				case <-stop:
					for _, l := range held {
						_ = l.Close()
					}
					return
				default:
				}
				if l, err := net.Listen("tcp", address(firstPort+rand.IntN(lastPort-firstPort))); err == nil {
					held = append(held, l)
				}
				if len(held) == 500 {
					_, held = held[0].Close(), held[1:]
				}
			}
		})
	}
	for range 300 {
		p, err := NewProxy("127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
}

// A process that is being started holds the listeners of its parent for a moment, also those
// that were closed.
func TestProxyIsHealedWhileItsPortIsHeld(t *testing.T) {
	p, err := NewProxy("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.Cut()
	held, err := net.Listen("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = held.Close() })
	if err := p.Heal(); err != nil {
		t.Error(err)
	}
}
