package network

import (
	"context"
	"net"
	"net/netip"
)

// Socket is a place in a Fabric for a test's own idea of a network: datagrams and
// streams, which the Fabric treats as those of a [Network], and nothing else.
type Socket struct{ port *fabricPort }

// Socket returns the place at addr. It fails if that is taken.
func (f *Fabric) Socket(addr netip.AddrPort) (*Socket, error) {
	port, err := f.attach(addr.Addr().String(), int(addr.Port()))
	if err != nil {
		return nil, err
	}
	return &Socket{port}, nil
}

// Send sends a datagram. It waits only while the place is frozen.
func (s *Socket) Send(datagram []byte, to netip.AddrPort) error { return s.port.sendTo(datagram, to) }

// Read calls deliver with each datagram, one at a time, until Close. It may keep
// the bytes.
func (s *Socket) Read(deliver func(from netip.AddrPort, datagram []byte)) { s.port.read(deliver) }

// Accept returns the next stream that another one has opened, until Close.
func (s *Socket) Accept() (net.Conn, error) { return (&fabricListener{s.port}).Accept() }

// Dial opens a stream.
func (s *Socket) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return s.port.dial(ctx, to)
}

// Close gives the place up. Streams stay open. It is idempotent.
func (s *Socket) Close() { s.port.close() }
