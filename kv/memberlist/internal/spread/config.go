package spread

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// Network is what this package needs of [network.Network].
type Network interface {
	Self() network.Peer
	Peers() []network.Peer
	HasLeft(id string) bool
	MaxFrame() int
	Send(frame []byte, to ...network.Peer) error
	Dial(ctx context.Context, to network.Peer) (net.Conn, error)
}

// Config says how changes travel. DefaultConfig has the defaults.
type Config struct {
	// DirectFanout is the number of members up to which a node sends its
	// changes to every one of them. Above that it sends them to RelayFanout
	// random ones, which hand them on to as many each.
	DirectFanout int
	RelayFanout  int

	// Coalesce is how long after a datagram further changes are held
	// back, to go together.
	Coalesce time.Duration

	// TailDelay is how long after its last datagram a node tells the others
	// its number, so that they notice if that one was lost.
	TailDelay time.Duration

	// StreamTimeout bounds each read and write of a stream, and dialling. It
	// is shorter than deletions are remembered: a comparison that stood still
	// for a partition must not go on after it with what it knew before.
	StreamTimeout time.Duration

	// Housekeeping is how often a node looks for what is due by time alone: old
	// tombstones, idle streams. It wakes the process, and is less than half of
	// StreamTimeout, or the other side would end a stream first.
	Housekeeping time.Duration

	// MaxServed is how many peers at once are sent whole values or what they
	// lack after a comparison; others are told to come again.
	MaxServed int

	// ExchangeInterval is how often, about, a node compares itself with another
	// one although they seem equal, so that each knows what the others have
	// seen. It should be a small part of the time that deletions are remembered.
	ExchangeInterval time.Duration

	Clock  func() time.Time // the store's; nil: time.Now
	Logger *slog.Logger     // nil: none
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		DirectFanout:     256,
		RelayFanout:      4,
		Coalesce:         10 * time.Millisecond,
		TailDelay:        500 * time.Millisecond,
		StreamTimeout:    10 * time.Second,
		Housekeeping:     3 * time.Second,
		MaxServed:        4,
		ExchangeInterval: 4 * time.Minute,
	}
}
