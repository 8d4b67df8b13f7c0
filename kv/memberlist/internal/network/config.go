package network

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Config says how a node takes part. DefaultConfig has the defaults; the layer above
// validates what users write.
type Config struct {
	Name     string // of the node, unique in the cluster, 1 to 128 bytes
	Instance uint64 // of this run of the node; 0: random

	Security

	BindAddress      string   // an IP address; "0.0.0.0" or "::" for all
	BindPort         int      // of UDP and TCP; 0: any
	AdvertiseAddress string   // an IP address under which others reach this node; "": found out
	AdvertisePort    int      // 0: the bound one
	InterfaceNames   []string // whose address to advertise, if none is set and all are bound
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
	Settle          time.Duration // how long after their start clusters without a label may become one

	Resolver *net.Resolver // of the join list; nil: the system's
	Fabric   *Fabric       // instead of sockets
	Logger   *slog.Logger  // nil: none
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
		GossipInterval:   400 * time.Millisecond, // every tick wakes the process, news or not
		PushPullInterval: 30 * time.Second,
		SuspicionMult:    4,
		MaxPacket:        1400,
		MaxMembers:       4096,
		MaxStreams:       1024,
		StreamTimeout:    10 * time.Second,
		FailedRetention:  25 * time.Hour,
		Settle:           5 * time.Minute,
	}
}

// Bounds of Config.MaxPacket: what holds a membership message with the longest
// name, and what UDP carries.
const (
	MinPacket     = 1024
	MaxPacketSize = 65000
)

// CheckName says what is wrong with the name of a node.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || !utf8.ValidString(name) {
		return fmt.Errorf("a name has 1 to %d bytes of valid UTF-8, not %q", MaxName, name)
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("a name has no control characters: %q", name)
	}
	return nil
}
