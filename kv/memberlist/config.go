package memberlist

import (
	"net/netip"
	"os"
	"time"

	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/spread"
)

// Config says how a node takes part in a gossip cluster. Start from
// [DefaultConfig]; the zero value is not valid. docs/gossip.md says more about
// what to choose.
type Config struct {
	// NodeName is this node's name, by which people know it; unique in the
	// cluster, at most 128 bytes. A node that is started again may have the
	// same name, at whatever address. Empty: the machine's name.
	NodeName string `yaml:"node_name"`

	// ClusterLabel goes with all that nodes send each other; what has another
	// one is refused, so that two clusters never become one by accident. Without
	// it two clusters that have existed for some minutes are kept apart as well,
	// which docs/gossip.md explains; joining others then warns once.
	// AcceptClusterLabels are accepted as well, while a cluster is given
	// another label: first all nodes accept the new one, then all use it and
	// accept the old one, then they forget the old one.
	ClusterLabel        string   `yaml:"cluster_label"`
	AcceptClusterLabels []string `yaml:"accept_cluster_labels"`

	// EncryptionKeys are keys of 16, 24 or 32 random bytes in base64, separated
	// by commas or white space. The first one encrypts, all decrypt. Empty: no
	// encryption, and anybody who reaches the port can take part.
	EncryptionKeys config.Secret `yaml:"encryption_keys"`

	// EncryptionKeysFile is a file with such keys instead. It is read again
	// when it changes, so keys can be exchanged while the cluster runs: on
	// all nodes first add the new key, then put it first, then remove the old
	// one.
	EncryptionKeysFile string `yaml:"encryption_keys_file"`

	// AcceptPlaintext lets in what is not encrypted although there are keys,
	// and SendPlaintext makes this node send so. They introduce encryption into
	// a running cluster: give all nodes keys with both set, then none with
	// SendPlaintext, then none with AcceptPlaintext.
	AcceptPlaintext bool `yaml:"accept_plaintext"`
	SendPlaintext   bool `yaml:"send_plaintext"`

	// BindAddress and BindPort are the IP address and the port, both of UDP and
	// of TCP, that the node listens on. "0.0.0.0" is every IPv4 address of the
	// machine, "::" every address; port 0 is any that is free.
	BindAddress string `yaml:"bind_address"`
	BindPort    int    `yaml:"bind_port"`

	// AdvertiseAddress and AdvertisePort are where the other nodes reach this
	// one. Empty and 0: where it listens, and if that is every address, the
	// default route's, never one of an interface that is down. What was chosen
	// is logged, with the reason; Start fails if nothing fits.
	AdvertiseAddress string `yaml:"advertise_address"`
	AdvertisePort    int    `yaml:"advertise_port"`

	// InterfaceNames are network interfaces, such as eth0, whose address is
	// advertised instead: of the first that is up and has one of a family that
	// the node listens on. They are for nodes that listen on every address
	// without an AdvertiseAddress.
	InterfaceNames []string `yaml:"interface_names"`

	// AllowedCIDRs are the networks, such as 10.0.0.0/8, that members may be
	// in. What comes from elsewhere is refused. Empty: any.
	AllowedCIDRs []string `yaml:"allowed_cidrs"`

	// Join names nodes of the cluster, some of which should be running:
	// host:port, dns+host:port (every address of that name) or dnssrv+name
	// (every target of that SRV record; dnssrvnoa+name is the same). The port
	// defaults to 7946. Names are resolved again for each attempt, and this node
	// itself may be among them.
	Join []string `yaml:"join"`

	// RejoinInterval is how often the node contacts one on the Join list, or
	// one that failed, that isn't a live member, so that the halves of a
	// partition find each other again; 0: only at the start. AloneInterval is
	// used instead while it has no live peer. Both are jittered.
	RejoinInterval time.Duration `yaml:"rejoin_interval"`
	AloneInterval  time.Duration `yaml:"alone_interval"`

	// JoinTimeout bounds joining by one address.
	JoinTimeout time.Duration `yaml:"join_timeout"`

	// RequirePeers makes Start wait for so many peers, for at most
	// RequirePeersTimeout, and fail without them. 0: Start waits for nobody.
	RequirePeers        int           `yaml:"require_peers"`
	RequirePeersTimeout time.Duration `yaml:"require_peers_timeout"`

	// ReadyTimeout bounds how long [Open] waits for what other nodes have.
	ReadyTimeout time.Duration `yaml:"ready_timeout"`

	// CloseTimeout bounds how long Close takes to hand on what the others don't
	// have yet, and to tell them that the node leaves.
	CloseTimeout time.Duration `yaml:"close_timeout"`

	// ProbeInterval is how often a node asks a random member whether it is
	// alive, ProbeTimeout how long it waits for the answer before it asks others
	// to ask. A member is failed after about
	// SuspicionMult * log10(members + 1) * ProbeInterval without an answer.
	ProbeInterval time.Duration `yaml:"probe_interval"`
	ProbeTimeout  time.Duration `yaml:"probe_timeout"`
	SuspicionMult int           `yaml:"suspicion_mult"`

	// GossipInterval is how often news of members goes to random others,
	// PushPullInterval how often two nodes exchange their lists of members;
	// the latter grows with the cluster.
	GossipInterval   time.Duration `yaml:"gossip_interval"`
	PushPullInterval time.Duration `yaml:"push_pull_interval"`

	// DirectFanout is the number of members up to which a node sends each of
	// its changes to all of them. Above it, it sends them to RelayFanout random
	// ones that pass them on. Coalesce is how long changes wait for each other
	// after one was sent.
	DirectFanout int           `yaml:"direct_fanout"`
	RelayFanout  int           `yaml:"relay_fanout"`
	Coalesce     time.Duration `yaml:"coalesce"`

	// StreamTimeout bounds each read and write of a connection between nodes.
	StreamTimeout time.Duration `yaml:"stream_timeout"`

	// MaxPacketBytes is the size of a datagram, MaxMembers that of the cluster,
	// MaxStreams how many connections others may have open to this node.
	MaxPacketBytes int `yaml:"max_packet_bytes"`
	MaxMembers     int `yaml:"max_members"`
	MaxStreams     int `yaml:"max_streams"`

	// MaxValueBytes is how large an encoded value may be that is written here.
	// Values that others wrote, and that grow by merging, may be larger.
	MaxValueBytes int `yaml:"max_value_bytes"`

	// KeepValues and KeepMaps are ids of codecs that this node's program doesn't
	// have, and whose values it keeps and passes on all the same, so that nodes
	// that join late get them from it: KeepMaps of a [MapCodec], whatever its
	// entries' codec is, KeepValues of any other whose values don't merge.
	// Clients of the node read such values as bytes.
	KeepValues []string `yaml:"keep_values"`
	KeepMaps   []string `yaml:"keep_maps"`

	// MaxClockSkew is how far ahead of the clock of most members a write may
	// be. A node whose clock is wrong by more is told, and its Ping fails.
	MaxClockSkew time.Duration `yaml:"max_clock_skew"`

	// TombstoneTimeout is how long the tombstone of a deletion is kept while all
	// members are there, at least twice StreamTimeout; PartitionTolerance how
	// long while one is away that may come back. For so long a deletion wins over
	// writes that had not seen it. Longer partitions undo no deletion either, see
	// docs/gossip.md. MaxTombstoneBytes bounds the memory of tombstones; 0: no
	// bound.
	TombstoneTimeout   time.Duration `yaml:"tombstone_timeout"`
	PartitionTolerance time.Duration `yaml:"partition_tolerance"`
	MaxTombstoneBytes  int           `yaml:"max_tombstone_bytes"`
}

// DefaultConfig returns the defaults: a node under the machine's name that
// listens on every IPv4 address and joins nobody.
func DefaultConfig() Config {
	n, s := network.DefaultConfig(), spread.DefaultConfig()
	return Config{
		BindAddress:         n.BindAddress,
		BindPort:            n.BindPort,
		RejoinInterval:      n.RejoinInterval,
		AloneInterval:       n.AloneInterval,
		JoinTimeout:         n.JoinTimeout,
		RequirePeersTimeout: 30 * time.Second,
		ReadyTimeout:        5 * time.Second,
		CloseTimeout:        5 * time.Second,
		ProbeInterval:       n.ProbeInterval,
		ProbeTimeout:        n.ProbeTimeout,
		SuspicionMult:       n.SuspicionMult,
		GossipInterval:      n.GossipInterval,
		PushPullInterval:    n.PushPullInterval,
		DirectFanout:        s.DirectFanout,
		RelayFanout:         s.RelayFanout,
		Coalesce:            s.Coalesce,
		StreamTimeout:       n.StreamTimeout,
		MaxPacketBytes:      n.MaxPacket,
		MaxMembers:          n.MaxMembers,
		MaxStreams:          n.MaxStreams,
		MaxValueBytes:       8 << 20,
		MaxClockSkew:        time.Minute,
		TombstoneTimeout:    time.Hour,
		PartitionTolerance:  24 * time.Hour,
		MaxTombstoneBytes:   64 << 20,
	}
}

// nodeName returns the name or what stands for it.
func (c Config) nodeName() string {
	if c.NodeName != "" {
		return c.NodeName
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "node"
	}
	return host[:min(len(host), network.MaxName)]
}

// cidrs returns AllowedCIDRs, which Validate has checked.
func (c Config) cidrs() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range c.AllowedCIDRs {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			all = append(all, prefix.Masked())
		}
	}
	return all
}

func (c Config) network() network.Config {
	n := network.DefaultConfig()
	n.Name = c.nodeName()
	n.BindAddress, n.BindPort = c.BindAddress, c.BindPort
	n.AdvertiseAddress, n.AdvertisePort, n.InterfaceNames = c.AdvertiseAddress, c.AdvertisePort, c.InterfaceNames
	n.AllowedCIDRs = c.cidrs()
	n.Join, n.RejoinInterval, n.AloneInterval, n.JoinTimeout = c.Join, c.RejoinInterval, c.AloneInterval, c.JoinTimeout
	n.ProbeInterval, n.ProbeTimeout, n.SuspicionMult = c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult
	n.GossipInterval, n.PushPullInterval = c.GossipInterval, c.PushPullInterval
	n.MaxPacket, n.MaxMembers, n.MaxStreams = c.MaxPacketBytes, c.MaxMembers, c.MaxStreams
	n.StreamTimeout = c.StreamTimeout
	n.FailedRetention = c.PartitionTolerance + time.Hour
	return n
}

func (c Config) spread() spread.Config {
	s := spread.DefaultConfig()
	s.DirectFanout, s.RelayFanout, s.Coalesce = c.DirectFanout, c.RelayFanout, c.Coalesce
	s.StreamTimeout, s.ExchangeInterval = c.StreamTimeout, max(c.TombstoneTimeout/16, time.Second)
	s.Housekeeping = min(s.Housekeeping, max(c.StreamTimeout/3, time.Second))
	return s
}
