package network

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// recorder is a Handler that keeps what it gets.
type recorder struct {
	mu       sync.Mutex
	frames   []string
	acks     map[string]string // by peer name
	peers    [][]Peer
	merged   []string
	serve    func(ctx context.Context, conn net.Conn)
	payload  string
	local    string
	inFrames func()
}

func (r *recorder) HandleFrame(_ netip.AddrPort, frame []byte) {
	r.mu.Lock()
	r.frames = append(r.frames, string(frame))
	hook := r.inFrames
	r.mu.Unlock()
	if hook != nil {
		hook()
	}
}

func (r *recorder) HandleStream(ctx context.Context, conn net.Conn) {
	if r.serve != nil {
		r.serve(ctx, conn)
		return
	}
	_, _ = io.Copy(conn, conn)
}

func (r *recorder) AckPayload() []byte { return []byte(r.payload) }

func (r *recorder) HandleAck(peer Peer, _ time.Duration, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.acks == nil {
		r.acks = map[string]string{}
	}
	r.acks[peer.Name] = string(payload)
}

func (r *recorder) LocalState(join bool) []byte { return fmt.Appendf(nil, "%s %v", r.local, join) }

func (r *recorder) MergeRemoteState(buf []byte, _ bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.merged = append(r.merged, string(buf))
}

func (r *recorder) PeersChanged(peers []Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers = append(r.peers, peers)
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.frames)
}

// testConfig is quick: a test waits for probes and gossip.
func testConfig(name string) Config {
	cfg := DefaultConfig()
	cfg.Name = name
	cfg.Label = "test"
	cfg.BindAddress = "127.0.0.1"
	cfg.BindPort = 0
	cfg.ProbeInterval = 200 * time.Millisecond
	cfg.ProbeTimeout = 100 * time.Millisecond
	cfg.GossipInterval = 50 * time.Millisecond
	cfg.PushPullInterval = 5 * time.Second
	cfg.RejoinInterval = time.Second
	cfg.AloneInterval = 200 * time.Millisecond
	return cfg
}

// node is a started Network with its recorder.
type node struct {
	*Network
	rec *recorder
}

func start(t testing.TB, cfg Config, rec *recorder) node {
	t.Helper()
	if rec == nil {
		rec = &recorder{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	n, err := Start(t.Context(), cfg, rec)
	if err != nil {
		t.Fatalf("start %s: %v", cfg.Name, err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return node{n, rec}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

// eventually waits until cond is true.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func awaitPeers(t testing.TB, count int, nodes ...node) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, fmt.Sprintf("%s has %d peers", n.self.Name, count), func() bool { return len(n.Peers()) == count })
	}
}

// both runs a test over sockets and over a Fabric.
func both(t *testing.T, test func(t *testing.T, config func(name string) Config)) {
	t.Helper()
	t.Run("sockets", func(t *testing.T) { test(t, testConfig) })
	t.Run("fabric", func(t *testing.T) {
		f := NewFabric(1)
		test(t, func(name string) Config {
			cfg := testConfig(name)
			cfg.Fabric = f
			return cfg
		})
	})
}

// cluster starts nodes that all join the first.
func cluster(t testing.TB, config func(name string) Config, count int) []node {
	t.Helper()
	var nodes []node
	for i := range count {
		cfg := config(fmt.Sprintf("node-%d", i))
		if i > 0 {
			cfg.Join = []string{nodes[0].Self().Addr.String()}
		}
		nodes = append(nodes, start(t, cfg, nil))
	}
	awaitPeers(t, count-1, nodes...)
	return nodes
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
