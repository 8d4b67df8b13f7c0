package network

import (
	"context"
	"net"
	"net/netip"
)

// wire carries packets and streams between addresses: sockets, or a Fabric.
type wire interface {
	// local returns the bound address; its IP may be unspecified.
	local() netip.AddrPort

	// advertise returns the address by which others can reach the wire: if it is
	// bound to all, that of the first of the named interfaces that has one.
	advertise(interfaces []string) (choice, error)

	// send sends packet to each of the peers, as far as it can without
	// waiting, and returns how many it could not.
	send(packet []byte, to []Peer) (unsent int)
	sendTo(packet []byte, to netip.AddrPort) error

	// readers are what reads packets, each in a loop until the wire is closed,
	// and gives them to deliver, one at a time. The bytes are valid during the
	// call.
	readers() []func(deliver func(from netip.AddrPort, packet []byte))

	// listeners accept streams until the wire is closed.
	listeners() []net.Listener
	dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)

	close()
}
