package memberlist

import (
	"strconv"

	"github.com/spf13/pflag"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// RegisterFlags adds a flag for every field to fs, named prefix plus the
// field's name in YAML with dashes. The defaults are c's present values.
func (c *Config) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	c.registerIdentity(fs, prefix)
	c.registerAddresses(fs, prefix)
	c.registerMembership(fs, prefix)
	c.registerData(fs, prefix)
}

func (c *Config) registerIdentity(fs *pflag.FlagSet, prefix string) {
	fs.StringVar(&c.NodeName, prefix+"node-name", c.NodeName, "this node's name, unique in the cluster; empty: the machine's name")
	fs.StringVar(&c.ClusterLabel, prefix+"cluster-label", c.ClusterLabel, "label that all nodes of the cluster share, so that nodes of others are refused; empty: none")
	fs.StringSliceVar(&c.AcceptClusterLabels, prefix+"accept-cluster-labels", c.AcceptClusterLabels, "labels that nodes of this cluster may have instead of cluster-label, while it is given another; empty: none")
	fs.Var(&c.EncryptionKeys, prefix+"encryption-keys", "keys of 16, 24 or 32 bytes in base64, with commas between them; the first encrypts, all decrypt; empty: those of encryption-keys-file, or no encryption")
	fs.StringVar(&c.EncryptionKeysFile, prefix+"encryption-keys-file", c.EncryptionKeysFile, "file with keys of 16, 24 or 32 bytes in base64, of which the first encrypts and all decrypt, read again when it changes; empty: none")
	fs.BoolVar(&c.AcceptPlaintext, prefix+"accept-plaintext", c.AcceptPlaintext, "accept messages that are not encrypted although there are encryption keys")
	fs.BoolVar(&c.SendPlaintext, prefix+"send-plaintext", c.SendPlaintext, "send messages without encryption although there are encryption keys; takes accept-plaintext too")
}

func (c *Config) registerAddresses(fs *pflag.FlagSet, prefix string) {
	fs.StringVar(&c.BindAddress, prefix+"bind-address", c.BindAddress, "IP address to listen on; 0.0.0.0: every IPv4 address, :: every address")
	fs.IntVar(&c.BindPort, prefix+"bind-port", c.BindPort, "the `port` to listen on, of UDP and TCP; 0: any that is free")
	fs.StringVar(&c.AdvertiseAddress, prefix+"advertise-address", c.AdvertiseAddress, "IP address at which other nodes reach this one; empty: the one it listens on, or the default route's")
	fs.StringSliceVar(&c.InterfaceNames, prefix+"interface-names", c.InterfaceNames, "network interfaces, such as eth0, of which the first with an address is where other nodes reach this one; empty: the default route's")
	fs.IntVar(&c.AdvertisePort, prefix+"advertise-port", c.AdvertisePort, "the `port` at which other nodes reach this one; 0: the one it listens on")
	fs.StringSliceVar(&c.AllowedCIDRs, prefix+"allowed-cidrs", c.AllowedCIDRs, "networks that members may be in, such as 10.0.0.0/8; empty: any")
	fs.StringSliceVar(&c.Join, prefix+"join", c.Join, "nodes to join: host:port, dns+host:port (all addresses of a name) or dnssrv+name (a service record); empty: none")
	fs.DurationVar(&c.RejoinInterval, prefix+"rejoin-interval", c.RejoinInterval, "how often a node of the join list, or one that failed, is contacted that is no live member; 0: only at the start")
	fs.DurationVar(&c.AloneInterval, prefix+"alone-interval", c.AloneInterval, "how often a node of the join list, or one that failed, is contacted while there is no live member beside this one; more than 0")
	fs.DurationVar(&c.JoinTimeout, prefix+"join-timeout", c.JoinTimeout, "limit for joining by one address; more than 0")
	fs.IntVar(&c.RequirePeers, prefix+"require-peers", c.RequirePeers, "how many other `nodes` must be there, within require-peers-timeout, for this one to start; 0: none")
	fs.DurationVar(&c.RequirePeersTimeout, prefix+"require-peers-timeout", c.RequirePeersTimeout, "how long starting waits for the nodes that require-peers asks for before it fails; more than 0")
}

func (c *Config) registerMembership(fs *pflag.FlagSet, prefix string) {
	fs.DurationVar(&c.ReadyTimeout, prefix+"ready-timeout", c.ReadyTimeout, "how long opening a client waits for what other nodes have; more than 0")
	fs.DurationVar(&c.CloseTimeout, prefix+"close-timeout", c.CloseTimeout, "limit for handing on pending changes and leaving the cluster; more than 0")
	fs.DurationVar(&c.ProbeInterval, prefix+"probe-interval", c.ProbeInterval, "how often a random member is asked whether it is alive; more than 0")
	fs.DurationVar(&c.ProbeTimeout, prefix+"probe-timeout", c.ProbeTimeout, "how long a member's answer to a probe may take before others are asked to probe it; more than 0, at most probe-interval")
	fs.IntVar(&c.SuspicionMult, prefix+"suspicion-mult", c.SuspicionMult, "the `factor` of how long a member may not answer before it is failed, which is the factor times log10(members + 1) times probe-interval; 1 to 100")
	fs.DurationVar(&c.GossipInterval, prefix+"gossip-interval", c.GossipInterval, "how often news of members goes to random other members; more than 0")
	fs.DurationVar(&c.PushPullInterval, prefix+"push-pull-interval", c.PushPullInterval, "how often two nodes exchange their lists of members, less often in a large cluster; more than 0")
	fs.IntVar(&c.MaxMembers, prefix+"max-members", c.MaxMembers, "most live `members` of the cluster; 1 to 1048576")
	fs.IntVar(&c.MaxStreams, prefix+"max-streams", c.MaxStreams, "most `connections` that other nodes may have open to this one; 1 to 1048576")
}

func (c *Config) registerData(fs *pflag.FlagSet, prefix string) {
	fs.IntVar(&c.DirectFanout, prefix+"direct-fanout", c.DirectFanout, "up to how many `members` a node sends each of its changes to all of them; 1 to 1048576")
	fs.IntVar(&c.RelayFanout, prefix+"relay-fanout", c.RelayFanout, "how many `members` get each change from its writer, and pass it on, in a cluster of more than direct-fanout; 1 to 1048576")
	fs.DurationVar(&c.Coalesce, prefix+"coalesce", c.Coalesce, "how long further changes wait for each other after one was sent; more than 0")
	fs.DurationVar(&c.StreamTimeout, prefix+"stream-timeout", c.StreamTimeout, "limit for each read and write of a connection between nodes; more than 0")
	fs.IntVar(&c.MaxPacketBytes, prefix+"max-packet-bytes", c.MaxPacketBytes, "size of a datagram in `bytes`; "+strconv.Itoa(network.MinPacket)+" to "+strconv.Itoa(network.MaxPacketSize))
	fs.IntVar(&c.MaxValueBytes, prefix+"max-value-bytes", c.MaxValueBytes, "largest value in `bytes`, encoded, that may be written on this node; 1 to 1073741824")
	fs.StringSliceVar(&c.KeepValues, prefix+"keep-values", c.KeepValues, "ids of codecs that this program does not have and whose values, which don't merge, it keeps and passes on; empty: none")
	fs.StringSliceVar(&c.KeepMaps, prefix+"keep-maps", c.KeepMaps, "ids of codecs of Maps that this program does not have and whose values it keeps and passes on; empty: none")
	fs.DurationVar(&c.MaxClockSkew, prefix+"max-clock-skew", c.MaxClockSkew, "how far ahead of most members' clocks a write's time may be; more than 0")
	fs.DurationVar(&c.TombstoneTimeout, prefix+"tombstone-timeout", c.TombstoneTimeout, "how long deletions are remembered while all members are there; at least twice stream-timeout")
	fs.DurationVar(&c.PartitionTolerance, prefix+"partition-tolerance", c.PartitionTolerance, "how long deletions are remembered while a failed member may come back; at least tombstone-timeout")
	fs.IntVar(&c.MaxTombstoneBytes, prefix+"max-tombstone-bytes", c.MaxTombstoneBytes, "limit in `bytes` of the memory for deletions that are remembered; 0: no limit")
}
