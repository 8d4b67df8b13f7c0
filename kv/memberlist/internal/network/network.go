package network

import (
	"context"
	"errors"
	"net"
)

// Errors of Send and Dial.
var (
	ErrClosed        = errors.New("the node is closed")
	ErrFrameTooLarge = errors.New("frame is larger than a datagram holds")
)

// Network is one node's part in a cluster. Its methods may be called
// concurrently.
type Network struct{}

// Start binds the node's ports, makes it known to itself, and starts joining in
// the background: it doesn't fail because nobody else is up. ctx bounds Start
// alone.
func Start(ctx context.Context, cfg Config, handler Handler) (*Network, error) {
	return nil, errors.ErrUnsupported
}

// Self returns this node, as others see it.
func (n *Network) Self() Peer { return Peer{} }

// Peers returns the live members other than this node, sorted by ID: a snapshot
// that must not be modified. It takes no lock.
func (n *Network) Peers() []Peer { return nil }

// Members returns all members that are known, this node included, sorted by
// state and name.
func (n *Network) Members() []Member { return nil }

// Health returns what this node knows about its connection to the rest.
func (n *Network) Health() Health { return Health{} }

// MaxFrame returns how many bytes fit a frame.
func (n *Network) MaxFrame() int { return 0 }

// Send sends one datagram with frame to each of the peers. It doesn't wait:
// datagrams get lost, those that the operating system has no room for included.
// The only errors are ErrFrameTooLarge and ErrClosed.
func (n *Network) Send(frame []byte, to ...Peer) error { return ErrClosed }

// Dial opens a stream to a peer, whose Handler gets it by HandleStream. ctx
// bounds Dial alone. A read or write for which no deadline is set fails after
// Config.StreamTimeout; the caller closes the stream, Close and Leave do too.
func (n *Network) Dial(ctx context.Context, to Peer) (net.Conn, error) { return nil, ErrClosed }

// Leave tells the others that this node goes and waits until some were told, or
// ctx ends. The node stays reachable until Close.
func (n *Network) Leave(ctx context.Context) error { return nil }

// Close ends the node without telling the others, waits for the goroutines
// (Handler calls included) and is idempotent.
func (n *Network) Close() error { return nil }
