package network

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist asks for and tells.
type delegate struct{ n *Network }

var (
	_ memberlist.Delegate     = (*delegate)(nil)
	_ memberlist.PingDelegate = (*delegate)(nil)
)

// NodeMeta is told to all with this node's address.
func (d *delegate) NodeMeta(int) []byte { return d.n.members.meta() }

// NotifyMsg isn't called: user messages don't pass the inspector.
func (d *delegate) NotifyMsg([]byte) {}

// GetBroadcasts returns none: data has frames of its own.
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState goes with the membership to one peer.
func (d *delegate) LocalState(join bool) []byte {
	var state []byte
	d.n.gate.run(func() { state = d.n.handler.LocalState(join) })
	if len(state) > MaxLocalState {
		d.n.logger.Error("gossip: state for a peer is too large and left out", "bytes", len(state), "limit", MaxLocalState)
		return nil
	}
	return state
}

// MergeRemoteState is called with a peer's LocalState.
func (d *delegate) MergeRemoteState(buf []byte, join bool) {
	d.n.gate.run(func() { d.n.handler.MergeRemoteState(buf, join) })
}

// AckPayload goes with the answer to a probe.
func (d *delegate) AckPayload() []byte {
	var payload []byte
	d.n.gate.run(func() { payload = d.n.handler.AckPayload() })
	if len(payload) > MaxAckPayload {
		d.n.logger.Error("gossip: payload of an answer is too large and left out", "bytes", len(payload), "limit", MaxAckPayload)
		payload = nil
	}
	return d.n.repairer.sign(payload)
}

// NotifyPingComplete is called when a probe was answered.
func (d *delegate) NotifyPingComplete(other *memberlist.Node, rtt time.Duration, payload []byte) {
	if d.n.transport.closing.Load() { // the answer is Shutdown's
		return
	}
	if peer, ok := d.n.members.acked(other.Name, rtt); ok {
		if payload, ok = d.n.repairer.compare(peer, payload); !ok {
			return
		}
		d.n.gate.run(func() { d.n.handler.HandleAck(peer, rtt, payload) })
	}
}

// bridge returns a logger for memberlist that writes to l until g is closed.
func bridge(l *slog.Logger, g *gate) *log.Logger {
	return log.New(&logWriter{logger: l, gate: g}, "", 0)
}

// logWriter passes on memberlist's lines, each kind of warning once a minute.
type logWriter struct {
	logger *slog.Logger
	gate   *gate
	due    Limiter
}

func (w *logWriter) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	level := slog.LevelInfo
	switch {
	case strings.HasPrefix(text, "[DEBUG]"):
		level = slog.LevelDebug
	case strings.HasPrefix(text, "[ERR"), strings.HasPrefix(text, "[WARN]"), strings.HasPrefix(text, "Err"):
		level = slog.LevelWarn
	}
	if !w.logger.Enabled(context.Background(), level) {
		return len(line), nil
	}
	if i := strings.Index(text, "memberlist: "); i >= 0 {
		text = text[i+len("memberlist: "):]
	}
	if level == slog.LevelWarn && !w.due.Allow(kindOfLine(text), time.Now()) {
		return len(line), nil
	}
	w.gate.run(func() { w.logger.Log(context.Background(), level, "memberlist: "+text) })
	return len(line), nil
}

// kindOfLine is the beginning of a line, up to what differs from one to the
// next.
func kindOfLine(text string) string {
	words := strings.Fields(text)
	return strings.Join(words[:min(len(words), 4)], " ")
}
