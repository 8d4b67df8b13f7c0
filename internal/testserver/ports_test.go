package testserver

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
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
