package memberlist

import "github.com/spf13/pflag"

// RegisterFlags adds a flag for every field to fs, named prefix plus the
// field's name in YAML with dashes. The defaults are c's present values.
func (c *Config) RegisterFlags(fs *pflag.FlagSet, prefix string) {
	c.registerIdentity(fs, prefix)
	c.registerAddresses(fs, prefix)
	c.registerMembership(fs, prefix)
	c.registerData(fs, prefix)
}

func (c *Config) registerIdentity(fs *pflag.FlagSet, prefix string) {
	fs.StringVar(&c.NodeName, prefix+"node-name", c.NodeName, "this node's name, unique in the cluster; empty: the machine's")
	fs.StringVar(&c.ClusterLabel, prefix+"cluster-label", c.ClusterLabel, "label that all nodes of the cluster share; others are refused")
	fs.StringSliceVar(&c.AcceptClusterLabels, prefix+"accept-cluster-labels", c.AcceptClusterLabels, "labels to accept besides, while the cluster is given another one")
	fs.Var(&c.EncryptionKeys, prefix+"encryption-keys", "keys of 16, 24 or 32 bytes in base64, separated by commas; the first encrypts, all decrypt")
	fs.StringVar(&c.EncryptionKeysFile, prefix+"encryption-keys-file", c.EncryptionKeysFile, "file with such keys, read again when it changes")
	fs.BoolVar(&c.AcceptPlaintext, prefix+"accept-plaintext", c.AcceptPlaintext, "accept unencrypted messages although there are keys")
	fs.BoolVar(&c.SendPlaintext, prefix+"send-plaintext", c.SendPlaintext, "send unencrypted messages although there are keys")
}

func (c *Config) registerAddresses(fs *pflag.FlagSet, prefix string) {
	fs.StringVar(&c.BindAddress, prefix+"bind-address", c.BindAddress, "IP address to listen on; 0.0.0.0: every IPv4 address, :: every address")
	fs.IntVar(&c.BindPort, prefix+"bind-port", c.BindPort, "port to listen on, of UDP and TCP; 0: any that is free")
	fs.StringVar(&c.AdvertiseAddress, prefix+"advertise-address", c.AdvertiseAddress, "IP address at which others reach this node; empty: found out")
	fs.StringSliceVar(&c.InterfaceNames, prefix+"interface-names", c.InterfaceNames, "interfaces of which the first that has an address is where others reach this node; empty: the default route's")
	fs.IntVar(&c.AdvertisePort, prefix+"advertise-port", c.AdvertisePort, "port at which others reach this node; 0: the one it listens on")
	fs.StringSliceVar(&c.AllowedCIDRs, prefix+"allowed-cidrs", c.AllowedCIDRs, "networks that members may be in; empty: any")
	fs.StringSliceVar(&c.Join, prefix+"join", c.Join, "nodes to join: host:port, dns+host:port or dnssrv+name")
	fs.DurationVar(&c.RejoinInterval, prefix+"rejoin-interval", c.RejoinInterval, "how often to contact one of them, or one that failed, that is not a live member; 0: only at the start")
	fs.DurationVar(&c.AloneInterval, prefix+"alone-interval", c.AloneInterval, "how often to do so without any live peer")
	fs.DurationVar(&c.JoinTimeout, prefix+"join-timeout", c.JoinTimeout, "limit for joining by one address")
	fs.IntVar(&c.RequirePeers, prefix+"require-peers", c.RequirePeers, "do not start without so many peers")
	fs.DurationVar(&c.RequirePeersTimeout, prefix+"require-peers-timeout", c.RequirePeersTimeout, "how long to wait for them")
}

func (c *Config) registerMembership(fs *pflag.FlagSet, prefix string) {
	fs.DurationVar(&c.ReadyTimeout, prefix+"ready-timeout", c.ReadyTimeout, "how long opening a client waits for what other nodes have")
	fs.DurationVar(&c.CloseTimeout, prefix+"close-timeout", c.CloseTimeout, "limit for handing on pending changes and leaving")
	fs.DurationVar(&c.ProbeInterval, prefix+"probe-interval", c.ProbeInterval, "how often to ask a random member whether it is alive")
	fs.DurationVar(&c.ProbeTimeout, prefix+"probe-timeout", c.ProbeTimeout, "wait for the answer before others are asked to ask")
	fs.IntVar(&c.SuspicionMult, prefix+"suspicion-mult", c.SuspicionMult, "how long a member may not answer before it is failed, as a multiple")
	fs.DurationVar(&c.GossipInterval, prefix+"gossip-interval", c.GossipInterval, "how often news of members goes to random others")
	fs.DurationVar(&c.PushPullInterval, prefix+"push-pull-interval", c.PushPullInterval, "how often two nodes exchange their lists of members")
	fs.IntVar(&c.MaxMembers, prefix+"max-members", c.MaxMembers, "most live members")
	fs.IntVar(&c.MaxStreams, prefix+"max-streams", c.MaxStreams, "most connections that others may have open to this node")
}

func (c *Config) registerData(fs *pflag.FlagSet, prefix string) {
	fs.IntVar(&c.DirectFanout, prefix+"direct-fanout", c.DirectFanout, "number of members up to which changes are sent to all of them")
	fs.IntVar(&c.RelayFanout, prefix+"relay-fanout", c.RelayFanout, "number of members that changes are sent to above that")
	fs.DurationVar(&c.Coalesce, prefix+"coalesce", c.Coalesce, "how long changes wait for each other after one was sent")
	fs.DurationVar(&c.StreamTimeout, prefix+"stream-timeout", c.StreamTimeout, "limit for each read and write of a connection between nodes")
	fs.IntVar(&c.MaxPacketBytes, prefix+"max-packet-bytes", c.MaxPacketBytes, "size of a datagram")
	fs.IntVar(&c.MaxValueBytes, prefix+"max-value-bytes", c.MaxValueBytes, "largest encoded value that may be written")
	fs.StringSliceVar(&c.KeepValues, prefix+"keep-values", c.KeepValues, "ids of codecs that this program does not have and whose values it keeps and passes on")
	fs.StringSliceVar(&c.KeepMaps, prefix+"keep-maps", c.KeepMaps, "the same for codecs whose values are Maps")
	fs.DurationVar(&c.MaxClockSkew, prefix+"max-clock-skew", c.MaxClockSkew, "how far ahead of most members' clocks a write may be")
	fs.DurationVar(&c.TombstoneTimeout, prefix+"tombstone-timeout", c.TombstoneTimeout, "how long deletions are remembered")
	fs.DurationVar(&c.PartitionTolerance, prefix+"partition-tolerance", c.PartitionTolerance, "how long they are while a member is failed that may come back")
	fs.IntVar(&c.MaxTombstoneBytes, prefix+"max-tombstone-bytes", c.MaxTombstoneBytes, "memory for deletions; 0: no limit")
}
