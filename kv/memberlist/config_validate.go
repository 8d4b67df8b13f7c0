package memberlist

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// Validate reports the first wrong field, by its name in YAML, and what is
// allowed. It reads EncryptionKeysFile, and contacts nobody.
func (c Config) Validate() error {
	return cmp.Or(c.validateIdentity(), c.validateAddresses(), c.validateDurations(), c.validateKept(), c.validateNumbers())
}

func (c Config) validateIdentity() error {
	if c.NodeName != "" {
		if err := network.CheckName(c.NodeName); err != nil {
			return fmt.Errorf("node_name: %w", err)
		}
	}
	if c.EncryptionKeys.Reveal() != "" && c.EncryptionKeysFile != "" {
		return errors.New("encryption_keys_file: is set beside encryption_keys; set one of them")
	}
	security, err := c.security()
	if err != nil {
		return err
	}
	return security.Check()
}

func (c Config) validateAddresses() error {
	if _, err := parseIP(c.BindAddress); err != nil {
		return fmt.Errorf("bind_address: %w", err)
	}
	if err := checkPort(c.BindPort); err != nil {
		return fmt.Errorf("bind_port: %w", err)
	}
	if c.AdvertiseAddress != "" {
		addr, err := parseIP(c.AdvertiseAddress)
		if err == nil && (addr.IsUnspecified() || addr.IsMulticast()) {
			err = fmt.Errorf("%s is no address of one machine", addr)
		}
		if err != nil {
			return fmt.Errorf("advertise_address: %w", err)
		}
	}
	if err := c.validateInterfaces(); err != nil {
		return err
	}
	if err := checkPort(c.AdvertisePort); err != nil {
		return fmt.Errorf("advertise_port: %w", err)
	}
	for _, text := range c.AllowedCIDRs {
		if _, err := netip.ParsePrefix(text); err != nil {
			return fmt.Errorf("allowed_cidrs: %q is not a network such as 10.0.0.0/8", text)
		}
	}
	for _, entry := range c.Join {
		if err := network.CheckJoin(entry); err != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
	return nil
}

func (c Config) validateInterfaces() error {
	if len(c.InterfaceNames) == 0 {
		return nil
	}
	if slices.Contains(c.InterfaceNames, "") {
		return errors.New("interface_names: one is empty; names such as eth0 are allowed")
	}
	if c.AdvertiseAddress != "" {
		return errors.New("interface_names: is set beside advertise_address; set one of them")
	}
	if bound, err := parseIP(c.BindAddress); err == nil && !bound.IsUnspecified() {
		return fmt.Errorf("interface_names: is set, but the node listens on the bind_address %s alone; 0.0.0.0 and :: go with it", bound)
	}
	return nil
}

func parseIP(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return addr, fmt.Errorf("%q is not an IP address such as 10.1.2.3 or 2001:db8::1", text)
	}
	return addr, nil
}

func checkPort(port int) error {
	if port < 0 || port > 65535 {
		return fmt.Errorf("%d is not a port; 0 to 65535 are allowed", port)
	}
	return nil
}

func (c Config) validateDurations() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"alone_interval", c.AloneInterval},
		{"join_timeout", c.JoinTimeout},
		{"require_peers_timeout", c.RequirePeersTimeout},
		{"ready_timeout", c.ReadyTimeout},
		{"close_timeout", c.CloseTimeout},
		{"probe_interval", c.ProbeInterval},
		{"probe_timeout", c.ProbeTimeout},
		{"gossip_interval", c.GossipInterval},
		{"push_pull_interval", c.PushPullInterval},
		{"coalesce", c.Coalesce},
		{"stream_timeout", c.StreamTimeout},
		{"max_clock_skew", c.MaxClockSkew},
		{"tombstone_timeout", c.TombstoneTimeout},
	} {
		if d.value <= 0 {
			return fmt.Errorf("%s: %v is not allowed; it must be more than 0", d.name, d.value)
		}
	}
	switch {
	case c.RejoinInterval < 0:
		return fmt.Errorf("rejoin_interval: %v is not allowed; it must be 0 or more", c.RejoinInterval)
	case c.ProbeTimeout > c.ProbeInterval:
		return fmt.Errorf("probe_timeout: %v is not allowed; it must be at most probe_interval (%v)", c.ProbeTimeout, c.ProbeInterval)
	case c.TombstoneTimeout < 2*c.StreamTimeout: // a comparison that stood still for longer could bring back what was deleted and forgotten
		return fmt.Errorf("tombstone_timeout: %v is not allowed; it must be at least twice stream_timeout (%v)", c.TombstoneTimeout, c.StreamTimeout)
	case c.PartitionTolerance < c.TombstoneTimeout:
		return fmt.Errorf("partition_tolerance: %v is not allowed; it must be at least tombstone_timeout (%v)", c.PartitionTolerance, c.TombstoneTimeout)
	}
	return nil
}

func (c Config) validateNumbers() error {
	for _, n := range []struct {
		name             string
		value, min, most int
	}{
		{"require_peers", c.RequirePeers, 0, 1 << 20},
		{"suspicion_mult", c.SuspicionMult, 1, 100},
		{"direct_fanout", c.DirectFanout, 1, 1 << 20},
		{"relay_fanout", c.RelayFanout, 1, 1 << 20},
		{"max_packet_bytes", c.MaxPacketBytes, network.MinPacket, network.MaxPacketSize},
		{"max_members", c.MaxMembers, 1, 1 << 20},
		{"max_streams", c.MaxStreams, 1, 1 << 20},
		{"max_value_bytes", c.MaxValueBytes, 1, 1 << 30},
		{"max_tombstone_bytes", c.MaxTombstoneBytes, 0, 1 << 40},
	} {
		if n.value < n.min || n.value > n.most {
			return fmt.Errorf("%s: %d is not allowed; it must be %d to %d", n.name, n.value, n.min, n.most)
		}
	}
	return nil
}
