package network

import (
	"log/slog"
	"net/netip"
	"time"
)

// Config says how a node takes part. DefaultConfig has the defaults.
type Config struct {
	Name string // of the node, unique in the cluster, 1 to 128 bytes

	Label        string   // of the cluster; goes with everything this node sends
	AcceptLabels []string // accepted besides Label

	Keys            [][]byte // of 16, 24 or 32 bytes; the first seals, all open; none: no encryption
	AcceptPlaintext bool     // although there are keys, while encryption is being introduced
	SendPlaintext   bool     // likewise

	BindAddress      string // an IP address; "0.0.0.0" or "::" for all
	BindPort         int    // of UDP and TCP; 0: any
	AdvertiseAddress string // an IP address under which others reach this node; "": found out
	AdvertisePort    int    // 0: the bound one
	AllowedCIDRs     []netip.Prefix

	Join           []string      // host:port, dns+host:port, dnssrv+name
	RejoinInterval time.Duration // 0: join once, at the start
	AloneInterval  time.Duration // used instead while there is no peer
	JoinTimeout    time.Duration // for one address

	ProbeInterval    time.Duration
	ProbeTimeout     time.Duration
	GossipInterval   time.Duration // of membership messages that found no probe to ride on
	PushPullInterval time.Duration // of membership
	SuspicionMult    int

	MaxPacket       int           // bytes of a datagram
	MaxMembers      int           // live ones
	MaxStreams      int           // open at once, opened by others
	StreamTimeout   time.Duration // for each read and write of a stream that has no deadline
	FailedRetention time.Duration // how long a failed member is remembered

	Fabric *Fabric // instead of sockets
	Logger *slog.Logger
}

// DefaultConfig returns the defaults: for a node that listens on every address
// and joins nobody.
func DefaultConfig() Config {
	return Config{
		BindAddress:      "0.0.0.0",
		BindPort:         7946,
		RejoinInterval:   30 * time.Second,
		AloneInterval:    5 * time.Second,
		JoinTimeout:      2 * time.Second,
		ProbeInterval:    time.Second,
		ProbeTimeout:     500 * time.Millisecond,
		GossipInterval:   200 * time.Millisecond,
		PushPullInterval: 30 * time.Second,
		SuspicionMult:    4,
		MaxPacket:        1400,
		MaxMembers:       4096,
		MaxStreams:       1024,
		StreamTimeout:    10 * time.Second,
		FailedRetention:  25 * time.Hour,
	}
}
