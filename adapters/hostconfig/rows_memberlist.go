package hostconfig

import (
	"fmt"
	"reflect"

	"github.com/polykv/polykv/kv/factory"
)

// Notes that several fields share.
const (
	onlyMembers = "not carried over; polykv sends changes at once, and tunes news of members by gossip_interval and push_pull_interval"
	noQueue     = "not carried over; polykv drops no change, so there is no such queue"
	keepsTrying = "not carried over; polykv tries to join for as long as it runs"
	noPackets   = "not carried over; polykv sends datagrams by UDP, not by connections"
	noNeed      = "not carried over; polykv has nothing like it"
	asPeers     = "becomes require_peers; the node itself doesn't count as one"
	firstStarts = "not carried over, as it is the host's default and the first process of all must start; see require_peers"
)

func memberlistRows() []row {
	const section = "memberlist."
	rows := append(memberRows(), lifeRows()...)
	rows = append(rows,
		row{name: "cluster_label", take: func(c *factory.Config, v reflect.Value) { c.Memberlist.ClusterLabel = text(v) }},
		row{name: "cluster_label_verification_disabled", refuse: "polykv always looks at labels; name the old one in accept_cluster_labels instead"},
		row{name: "tls_enabled", refuse: "polykv's gossip has no TLS; encrypt it by encryption_keys, and turn this off"},
		row{name: "zone_aware_routing.enabled", refuse: "polykv sends changes to all members, whatever their zone; turn it off if that is acceptable"},
	)
	for _, name := range []string{"retransmit_factor", "gossip_nodes", "gossip_interval", "gossip_to_dead_nodes_time", "pull_push_interval"} {
		rows = append(rows, row{name: name, note: onlyMembers})
	}
	for _, name := range []string{"received_messages_queue_size", "processed_messages_queue_size", "watch_prefix_buffer_size", "max_concurrent_writes", "acquire_writer_timeout"} {
		rows = append(rows, row{name: name, note: noQueue})
	}
	for _, name := range []string{"min_join_backoff", "max_join_backoff", "max_join_retries"} {
		rows = append(rows, row{name: name, note: keepsTrying})
	}
	for _, name := range []string{"packet_dial_timeout", "packet_write_timeout", "packet_read_timeout", "max_packet_size"} {
		rows = append(rows, row{name: name, note: noPackets})
	}
	for _, name := range []string{
		"randomize_node_name", "dead_node_reclaim_time", "compression_enabled", "compression_algorithm", "notify_interval", "obsolete_entries_timeout",
		"broadcast_timeout_for_local_updates_on_shutdown", "message_history_buffer_bytes", "max_concurrent_connections",
		"zone_aware_routing.instance_availability_zone", "zone_aware_routing.role",
		"propagation_delay_tracker.enabled", "propagation_delay_tracker.beacon_interval", "propagation_delay_tracker.beacon_lifetime",
		"propagation_delay_tracker.log_beacons_latency_longer_than",
		"tls_cert_path", "tls_key_path", "tls_ca_path", "tls_server_name", "tls_insecure_skip_verify", "tls_cipher_suites", "tls_min_version",
	} {
		rows = append(rows, row{name: name, note: noNeed})
	}
	flags := map[string]string{
		"node_name": "nodename", "pull_push_interval": "pullpush-interval", "join_members": "join",
		"abort_if_cluster_join_fails": "abort-if-join-fails", "abort_if_cluster_fast_join_fails": "abort-if-fast-join-fails",
		"abort_if_cluster_fast_join_fails_min_nodes": "abort-if-fast-join-fails-min-nodes",
	}
	for i, r := range rows {
		if flag := flags[r.name]; flag != "" {
			rows[i].flag = section + flag
		}
		rows[i].name = section + r.name
	}
	return rows
}

// memberRows say who the node is and whom it joins.
func memberRows() []row {
	return []row{
		{name: "node_name", take: func(c *factory.Config, v reflect.Value) { c.Memberlist.NodeName = text(v) }},
		{name: "bind_addr", take: func(c *factory.Config, v reflect.Value) {
			if addresses := list(v); len(addresses) > 0 {
				c.Memberlist.BindAddress = addresses[0]
			}
		}, check: func(_ *factory.Config, v reflect.Value) error {
			if addresses := list(v); len(addresses) > 1 {
				return fmt.Errorf(`is %q, and polykv listens on one address; "0.0.0.0" is every one`, addresses)
			}
			return nil
		}},
		{name: "bind_port", take: func(c *factory.Config, v reflect.Value) { c.Memberlist.BindPort = number(v) }},
		{name: "advertise_addr", take: func(c *factory.Config, v reflect.Value) { c.Memberlist.AdvertiseAddress = text(v) }},
		{name: "advertise_port", ifSet: true, take: func(c *factory.Config, v reflect.Value) { c.Memberlist.AdvertisePort = number(v) }},
		{name: "join_members", take: func(c *factory.Config, v reflect.Value) { c.Memberlist.Join = append(c.Memberlist.Join, list(v)...) }},
		{name: "rejoin_seed_nodes", note: "added to join, as polykv has one list", take: func(c *factory.Config, v reflect.Value) {
			c.Memberlist.Join = append(c.Memberlist.Join, list(v)...)
		}},
		{name: "rejoin_interval", ifSet: true, take: func(c *factory.Config, v reflect.Value) { c.Memberlist.RejoinInterval = duration(v) }},
		{name: "abort_if_cluster_join_fails", note: asPeers, inherited: firstStarts, ifSet: true, take: func(c *factory.Config, v reflect.Value) {
			if v.Bool() && len(c.Memberlist.Join) > 0 {
				c.Memberlist.RequirePeers = max(c.Memberlist.RequirePeers, 1)
			}
		}},
		{name: "abort_if_cluster_fast_join_fails", note: asPeers, take: func(c *factory.Config, v reflect.Value) {
			if v.Bool() {
				c.Memberlist.RequirePeers = max(c.Memberlist.RequirePeers, 1)
			}
		}},
		{name: "abort_if_cluster_fast_join_fails_min_nodes", take: func(c *factory.Config, v reflect.Value) {
			if c.Memberlist.RequirePeers > 0 {
				c.Memberlist.RequirePeers = max(c.Memberlist.RequirePeers, number(v))
			}
		}},
	}
}

// lifeRows say how long things take and are kept.
func lifeRows() []row {
	tombstones := func(c *factory.Config, v reflect.Value) {
		c.Memberlist.TombstoneTimeout = max(c.Memberlist.TombstoneTimeout, duration(v))
		c.Memberlist.PartitionTolerance = max(c.Memberlist.PartitionTolerance, c.Memberlist.TombstoneTimeout)
	}
	return []row{
		{name: "stream_timeout", ifSet: true, take: func(c *factory.Config, v reflect.Value) { c.Memberlist.StreamTimeout = duration(v) }},
		{name: "leave_timeout", ifSet: true, take: func(c *factory.Config, v reflect.Value) { c.Memberlist.CloseTimeout = duration(v) }},
		{name: "left_ingesters_timeout", note: "raises tombstone_timeout, and never lowers it", ifSet: true, take: tombstones},
		{name: "tombstone_timeout", note: "raises tombstone_timeout, and never lowers it", ifSet: true, take: tombstones},
	}
}
