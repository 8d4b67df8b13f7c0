package network

import (
	"net"
	"net/netip"
	"time"
)

// Peer is a live member of the cluster other than this node. A Peer is a value;
// two are the same member if their IDs are equal.
type Peer struct {
	// ID names one run of one node: its Name and its Instance. A node that is
	// started again has the same Name and another ID.
	ID       string
	Name     string
	Instance uint64

	// Addr is where it receives datagrams and streams.
	Addr netip.AddrPort

	// Started is the time by its own clock at which it was started.
	Started time.Time

	// Joined is when this node came to know it as alive, the last time.
	Joined time.Time

	udp *net.UDPAddr // Addr, as batched sends want it
}

// State is what a node thinks of a member.
type State string

// The states of a member. A failed member did not say that it leaves; it may
// come back with all that it knows.
const (
	Alive   State = "alive"
	Suspect State = "suspect"
	Failed  State = "failed"
	Left    State = "left"
)

// Member is one line of the list of members, for people to read.
type Member struct {
	Peer
	State State
	Since time.Time // in State
	RTT   time.Duration
	Acked time.Time // when it last answered one of our probes; zero: not yet

	// ByStream says that it answers no datagrams, so packets go by a stream.
	ByStream bool
}

// Health is what a node knows about its connection to the rest.
type Health struct {
	// IsolatedSince is when this node lost its last peer, or was started, if
	// there should be others and none is alive; zero otherwise.
	IsolatedSince time.Time

	// Unmet is set while a node is isolated that has had no peer since it was
	// started: the first of a cluster, as far as it knows.
	Unmet bool

	// Foreign is where another cluster without a label, as this one is, was met
	// in the last minutes, and was not joined; "" if none was.
	Foreign string

	// FailedSince is when the member failed that has been failed the longest
	// without having left or been replaced by a newer instance of its name;
	// zero if there is none.
	FailedSince time.Time
}
