package network

import "net"

// wireAddr is a peer's address in the form that batched sends want.
type wireAddr struct{ udp *net.UDPAddr }
