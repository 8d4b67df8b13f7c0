package memberlist

import (
	"maps"
	"slices"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// What the names of figures begin with, and those of counts end with.
const (
	figurePrefix = "polykv_gossip_"
	countSuffix  = "_total"
)

// Figures calls yield for each of the node's figures, for a system of metrics;
// [github.com/polykv/polykv/kv/metrics.Figures] turns it into a Prometheus
// collector. counter tells a count since the start from a value that goes up
// and down; labels are names and values in turns, the node's name among them.
func (n *Node) Figures(yield func(name, help string, counter bool, value float64, labels ...string)) {
	gauge := func(name, help string, value float64, labels ...string) {
		yield(figurePrefix+name, help, false, value, labels...)
	}
	count := func(name, help string, value uint64, labels ...string) {
		yield(figurePrefix+name+countSuffix, help, true, float64(value), labels...)
	}
	n.memberFigures(gauge)
	n.networkFigures(gauge, count)
	n.spreadFigures(gauge, count)
}

type (
	gaugeFunc func(name, help string, value float64, labels ...string)
	countFunc func(name, help string, value uint64, labels ...string)
)

func (n *Node) memberFigures(gauge gaugeFunc) {
	states := map[network.State]int{}
	for _, m := range n.net.Members() {
		states[m.State]++
	}
	for _, s := range []network.State{network.Alive, network.Suspect, network.Failed, network.Left} {
		gauge("members", "Members by state, this node included.", float64(states[s]), "state", string(s))
	}
	health := n.net.Health()
	gauge("isolated_seconds", "How long this node has been without a live peer though there should be one; 0 if it isn't.", secondsSince(health.IsolatedSince))
	gauge("failed_member_seconds", "How long the longest failed member has been gone without having left.", secondsSince(health.FailedSince))
	gauge("keys", "Keys that exist on this node.", float64(n.store.Snapshot().Len()))
	healthy := 1.0
	if n.health() != nil {
		healthy = 0
	}
	gauge("healthy", "1 if this node exchanges changes with others, as Ping tells.", healthy)
}

func secondsSince(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return time.Since(t).Seconds()
}

func (n *Node) networkFigures(gauge gaugeFunc, count countFunc) {
	s := n.net.Stats()
	const packets, bytes = "Datagrams, by kind and direction.", "Bytes of datagrams, by kind and direction."
	count("datagrams", packets, s.FramesSent, "kind", "data", "direction", "sent")
	count("datagrams", packets, s.FramesReceived, "kind", "data", "direction", "received")
	count("datagrams", packets, s.MembershipSent, "kind", "membership", "direction", "sent")
	count("datagrams", packets, s.MembershipReceived, "kind", "membership", "direction", "received")
	count("datagram_bytes", bytes, s.FrameBytesSent, "kind", "data", "direction", "sent")
	count("datagram_bytes", bytes, s.FrameBytesReceived, "kind", "data", "direction", "received")
	count("datagram_bytes", bytes, s.MembershipBytesSent, "kind", "membership", "direction", "sent")
	count("datagram_bytes", bytes, s.MembershipBytesReceived, "kind", "membership", "direction", "received")
	count("streams", "Connections, by who opened them.", s.StreamsOpened, "by", "this node")
	count("streams", "Connections, by who opened them.", s.StreamsAccepted, "by", "others")
	count("stream_bytes", "Bytes on connections, both ways.", s.StreamBytes)
	gauge("open_streams", "Connections that are open.", float64(s.OpenStreams))
	const byTCP = "Packets that went by TCP, since datagrams get no answer, by direction."
	count("packets_by_tcp", byTCP, s.ByStreamSent, "direction", "sent")
	count("packets_by_tcp", byTCP, s.ByStreamReceived, "direction", "received")
	gauge("members_by_tcp", "Peers that answer no datagrams, so that packets go to them by TCP.", float64(s.ByStreamPeers))
	for _, cause := range network.Causes() {
		count("refused", "What was refused, or could not be sent, by cause.", s.Rejected[cause], "cause", string(cause))
	}
}

func (n *Node) spreadFigures(gauge gaugeFunc, count countFunc) {
	s := n.spread.Stats()
	for _, name := range slices.Sorted(maps.Keys(s.Counters)) {
		if name == "tombstones" {
			gauge(name, "Deletions that are remembered.", float64(s.Counters[name]))
			continue
		}
		count("events", "What happened while changes were carried, by event.", s.Counters[name], "event", name)
	}
	for _, outcome := range slices.Sorted(maps.Keys(s.Outcomes)) {
		count("changes", "Changes of other nodes, by what became of them.", s.Outcomes[outcome], "outcome", outcome)
	}
	const waiting = "What waits or is under way."
	gauge("queue", waiting, float64(s.Queues.Changes), "queue", "changes")
	gauge("queue", waiting, float64(s.Queues.Missing), "queue", "missing")
	gauge("queue", waiting, float64(s.Queues.Announced), "queue", "announced")
	gauge("queue", waiting, float64(s.Queues.Pulling), "queue", "pulling")
	gauge("queue", waiting, float64(s.Queues.Comparing), "queue", "comparing")
	const lag = "How long recent changes of other nodes were on their way, by the clocks of both."
	gauge("lag_seconds", lag, s.Lag.P50.Seconds(), "quantile", "0.5")
	gauge("lag_seconds", lag, s.Lag.P99.Seconds(), "quantile", "0.99")
	gauge("lag_seconds", lag, s.Lag.Max.Seconds(), "quantile", "1")
}
