// Command ports takes ports of the range that tests choose from and gives them
// back, until it is killed.
package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

func main() {
	var held []net.Listener
	for {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))); err == nil {
			held = append(held, l)
		}
		if len(held) > 1000 {
			_, held = held[0].Close(), held[1:]
		}
		time.Sleep(time.Millisecond)
	}
}
