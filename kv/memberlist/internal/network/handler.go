package network

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// Handler is the layer above. Its methods are called concurrently, from before
// Start returns until Close has returned.
type Handler interface {
	// HandleFrame is called for each data frame, from the goroutine that reads
	// the socket: it must not block. The bytes are valid during the call only.
	HandleFrame(from netip.AddrPort, frame []byte)

	// HandleStream serves one stream that a peer opened with Dial, on a
	// goroutine of its own. conn is closed when it returns; ctx ends with the
	// network. conn has no deadlines.
	HandleStream(ctx context.Context, conn net.Conn)

	// AckPayload is sent with the answer to each probe. At most MaxAckPayload
	// bytes, which the network only reads.
	AckPayload() []byte

	// HandleAck is called with what a probed peer sent in its AckPayload.
	HandleAck(peer Peer, rtt time.Duration, payload []byte)

	// LocalState and MergeRemoteState are exchanged with one peer on joining
	// and every PushPullInterval. At most MaxLocalState bytes.
	LocalState(join bool) []byte
	MergeRemoteState(buf []byte, join bool)

	// PeersChanged is called, one call at a time, after members came or went,
	// with the snapshot that Peers returns: it must not be modified. The calls
	// are made in the order of the snapshots; those that are out of date by the
	// time their turn comes are left out.
	PeersChanged(peers []Peer)
}

// Limits of what a Handler may send.
const (
	MaxAckPayload = 256  // bytes
	MaxLocalState = 1024 // bytes
)
