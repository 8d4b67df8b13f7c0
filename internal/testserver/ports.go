package testserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

const (
	host = "127.0.0.1"

	// Ports are taken from below the range that systems hand out to outgoing connections (32768 and up on Linux,
	// 49152 and up elsewhere), so that no connection of anybody's lands on a server's port while the server is down.
	firstPort = 20000
	lastPort  = 32000
	blockSize = 16
)

// A portBlock is a run of ports that no other block, in this process or another, has as long as it is held. Its
// first port is listened on and never accepted from: that is the claim, and it ends with the process.
type portBlock struct {
	claim net.Listener
	ports []int
}

// reservePorts claims a block and picks n ports of it that are free at the moment. A program that knows nothing of
// blocks may still take one before its server does; whoever starts the server has to try again then.
func reservePorts(n int) (*portBlock, error) {
	const blocks = (lastPort - firstPort) / blockSize
	for _, b := range rand.Perm(blocks) {
		base := firstPort + b*blockSize
		claim, err := net.Listen("tcp", address(base))
		if err != nil {
			continue
		}
		block := &portBlock{claim: claim}
		for port := base + 1; port < base+blockSize && len(block.ports) < n; port++ {
			if portFree(port) {
				block.ports = append(block.ports, port)
			}
		}
		if len(block.ports) == n {
			return block, nil
		}
		block.release()
	}
	return nil, fmt.Errorf("no %d free ports together between %d and %d on %s", n, firstPort, lastPort, host)
}

// ReservePorts is for servers that this package doesn't know: it returns n ports that stay with this process until
// release, so that a server can be started again on its own.
func ReservePorts(n int) (ports []int, release func(), err error) {
	block, err := reservePorts(n)
	if err != nil {
		return nil, nil, err
	}
	return block.ports, block.release, nil
}

// listenReserved claims a block and listens on a port of it, which stays the listener's own when it is closed for a while.
// It doesn't look first whether a port is free: somebody could take it in between.
func listenReserved() (*portBlock, net.Listener, error) {
	for {
		block, err := reservePorts(0)
		if err != nil {
			return nil, nil, err
		}
		base := block.claim.Addr().(*net.TCPAddr).Port
		for port := base + 1; port < base+blockSize; port++ {
			if l, err := net.Listen("tcp", address(port)); err == nil {
				block.ports = []int{port}
				return block, l, nil
			}
		}
		block.release()
	}
}

// portFree looks at UDP as well, since Consul's gossip uses both.
func portFree(port int) bool {
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	u, err := net.ListenPacket("udp", address(port))
	if err == nil {
		err = u.Close()
	}
	return errors.Join(err, l.Close()) == nil
}

func (b *portBlock) release() { _ = b.claim.Close() }

func address(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
