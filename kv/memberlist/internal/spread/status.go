package spread

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/polykv/polykv/kv/memberlist/internal/network"
	"github.com/polykv/polykv/kv/memberlist/internal/state"
)

// counters are what Stats tells since the node was started, but for the few
// that are a state.
type counters struct {
	frames, packetsOut, bytesOut, framesIn, bytesIn           atomic.Uint64
	duplicates, relayed, behind, sendFailures                 atomic.Uint64
	asked, resent, givenUp, strangers, unknownKind, malformed atomic.Uint64
	refusals, mismatches, checks                              atomic.Uint64
	compares, compareBusy, compareFailures                    atomic.Uint64
	served, turnedAway, streamFailures                        atomic.Uint64
	recordsIn, recordBytesIn, recordsOut, recordBytesOut      atomic.Uint64
	pulls, pullBusy, pullAbsent, pullFailures                 atomic.Uint64
	expired, expiredEarly, tombstones, seenForgotten          atomic.Uint64
	streams                                                   atomic.Int64
	outcomes                                                  [state.UnknownCodec + 1]atomic.Uint64
}

// Stats is what a node has done so far and what it is doing.
type Stats struct {
	// Counters, since the node was started, by name. The names are those
	// of metrics: lower case, with underscores.
	Counters map[string]uint64 `json:"counters"`

	// Outcomes counts the changes of others, by what became of them.
	Outcomes map[string]uint64 `json:"outcomes"`

	Queues Queues `json:"queues"`
	Lag    Lag    `json:"lag"`
}

// Queues is what waits or is under way.
type Queues struct {
	Changes     int   `json:"changes"`      // of this node, to be sent
	ChangeBytes int   `json:"change_bytes"` // of them
	Missing     int   `json:"missing"`      // frames being asked for
	Announced   int   `json:"announced"`    // values to be pulled
	Pulling     int   `json:"pulling"`      // values being pulled
	Comparing   int   `json:"comparing"`    // members being checked or about to be compared with
	StreamsOut  int   `json:"streams_out"`  // in use
	StreamsIdle int   `json:"streams_idle"` // kept for later
	StreamsIn   int64 `json:"streams_in"`   // opened by others
}

// Stats returns the node's figures.
func (s *Spread) Stats() Stats {
	c := &s.count
	st := Stats{Outcomes: map[string]uint64{}, Lag: lagOf(s.lag.list()), Counters: map[string]uint64{
		"frames_sent": c.frames.Load(), "packets_sent": c.packetsOut.Load(), "packet_bytes_sent": c.bytesOut.Load(),
		"packets_received": c.framesIn.Load(), "packet_bytes_received": c.bytesIn.Load(),
		"duplicates": c.duplicates.Load(), "relayed": c.relayed.Load(), "fell_behind": c.behind.Load(),
		"send_failures": c.sendFailures.Load(), "frames_asked_for": c.asked.Load(), "frames_resent": c.resent.Load(),
		"gaps_given_up": c.givenUp.Load(), "from_strangers": c.strangers.Load(), "unknown_kind": c.unknownKind.Load(),
		"malformed": c.malformed.Load(), "refusals": c.refusals.Load(), "digest_mismatches": c.mismatches.Load(),
		"checks": c.checks.Load(), "compares": c.compares.Load(), "compares_busy": c.compareBusy.Load(),
		"compares_failed": c.compareFailures.Load(), "compares_served": c.served.Load(),
		"turned_away": c.turnedAway.Load(), "streams_failed": c.streamFailures.Load(),
		"records_received": c.recordsIn.Load(), "record_bytes_received": c.recordBytesIn.Load(),
		"records_sent": c.recordsOut.Load(), "record_bytes_sent": c.recordBytesOut.Load(),
		"pulls": c.pulls.Load(), "pulls_busy": c.pullBusy.Load(), "pulls_failed": c.pullFailures.Load(),
		"pulls_absent":       c.pullAbsent.Load(),
		"tombstones_expired": c.expired.Load(), "tombstones_expired_early": c.expiredEarly.Load(),
		"tombstones": c.tombstones.Load(), "seen_forgotten": c.seenForgotten.Load(),
	}}
	for i := range c.outcomes {
		st.Outcomes[state.Outcome(i).String()] = c.outcomes[i].Load()
	}
	q := &st.Queues
	q.Changes, q.ChangeBytes = s.queue.size()
	q.Missing, q.Comparing, q.StreamsIn = s.origins.missing(), s.comparer.size(), c.streams.Load()
	q.Announced, q.Pulling = s.pulls.size()
	if s.up.Load() {
		q.StreamsOut, q.StreamsIdle = s.pool.size()
	}
	return st
}

// Messages returns the messages that were sent and received last, the newest
// first.
func (s *Spread) Messages() []Message {
	all := s.messages.list()
	slices.Reverse(all)
	return all
}

func (s *Spread) logItem(it *item, seq uint64, sent bool, peer *network.Peer, now time.Time, outcome string) {
	m := Message{
		Time: now, Sent: sent, Kind: kindNames[framePush], Codec: it.Codec, Key: it.Key,
		Bytes: len(it.Value), Sequence: seq, Outcome: outcome,
	}
	if it.announced {
		m.Bytes = int(it.size) //nolint:gosec // for people
	}
	if peer != nil {
		m.Peer = peer.Name
	}
	s.messages.add(m)
}

func (s *Spread) logFrame(kind byte, seq uint64, sent bool, peer *network.Peer) {
	m := Message{Time: time.Now(), Sent: sent, Kind: kindNames[kind], Sequence: seq}
	if peer != nil {
		m.Peer = peer.Name
	}
	s.messages.add(m)
}

// malformed counts a message that breaks the format.
func (s *Spread) malformed(what string, err error) {
	s.count.malformed.Add(1)
	s.complain("a message is malformed", "what", what, "err", err)
}

// complain logs, once a minute for each message.
func (s *Spread) complain(msg string, args ...any) {
	if s.limiter.Allow(msg, time.Now()) {
		s.cfg.Logger.Warn(msg, args...)
	}
}
