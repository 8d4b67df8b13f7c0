package memberlist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/kv"
	"github.com/polykv/polykv/kv/config"
	"github.com/polykv/polykv/kv/memberlist/internal/network"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// nodeConfig is quick: tests wait for probes and gossip.
func nodeConfig(name string) Config {
	cfg := DefaultConfig()
	cfg.NodeName = name
	cfg.ClusterLabel = "test"
	cfg.BindAddress, cfg.BindPort = "127.0.0.1", 0
	cfg.ProbeInterval, cfg.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
	cfg.GossipInterval = 50 * time.Millisecond
	cfg.RejoinInterval, cfg.AloneInterval = time.Second, 200*time.Millisecond
	return cfg
}

func startNode(tb testing.TB, cfg Config, fabric *network.Fabric, codecs ...codec.Codec) *Node {
	tb.Helper()
	if codecs == nil {
		codecs = testCodecs(tb)
	}
	n, err := StartWith(tb.Context(), cfg, Options{Logger: testLogger(tb), fabric: fabric}, codecs...)
	if err != nil {
		tb.Fatalf("start %s: %v", cfg.NodeName, err)
	}
	tb.Cleanup(func() { _ = n.Close() })
	return n
}

func testLogger(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{tb}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type testWriter struct{ tb testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.tb.Logf("%s", b)
	return len(b), nil
}

// startCluster starts nodes that join the first, and waits until they know each
// other.
func startNodes(tb testing.TB, count int, fabric *network.Fabric, configure func(*Config)) []*Node {
	tb.Helper()
	var nodes []*Node
	for i := range count {
		cfg := nodeConfig(fmt.Sprintf("node-%d", i))
		if i > 0 {
			cfg.Join = []string{nodes[0].Address()}
		}
		if configure != nil {
			configure(&cfg)
		}
		nodes = append(nodes, startNode(tb, cfg, fabric))
	}
	for _, n := range nodes {
		awaitPeerCount(tb, n, count-1)
	}
	return nodes
}

func awaitPeerCount(tb testing.TB, n *Node, count int) {
	tb.Helper()
	soon(tb, fmt.Sprintf("%s has %d peers", n.Name(), count), func() bool { return len(n.Peers()) == count })
}

func soon(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func clientOf(tb testing.TB, n *Node, c codec.Codec) kv.Client {
	tb.Helper()
	client, err := n.Client(c, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return client
}

func putValue(tb testing.TB, c kv.Client, key string, value any) {
	tb.Helper()
	err := c.CAS(tb.Context(), key, func(any) (any, bool, error) { return value, false, nil })
	if err != nil {
		tb.Fatalf("write %s: %v", key, err)
	}
}

func awaitStored(tb testing.TB, c kv.Client, key string, want any) {
	tb.Helper()
	soon(tb, fmt.Sprintf("%s is %v", key, want), func() bool {
		got, err := c.Get(tb.Context(), key)
		if err != nil {
			tb.Fatal(err)
		}
		return got == want
	})
}

func TestNodesShareWhatTheirClientsWrite(t *testing.T) {
	nodes := startNodes(t, 3, nil, nil)
	putValue(t, clientOf(t, nodes[0], codec.String{}), "key", "value")
	for _, n := range nodes {
		awaitStored(t, clientOf(t, n, codec.String{}), "key", "value")
	}
	if err := clientOf(t, nodes[1], codec.String{}).Delete(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		awaitStored(t, clientOf(t, n, codec.String{}), "key", nil)
	}
}

func TestALateNodeIsReadyWhenItHasEverything(t *testing.T) {
	nodes := startNodes(t, 2, nil, nil)
	writer := clientOf(t, nodes[0], codec.String{})
	for i := range 500 {
		putValue(t, writer, fmt.Sprintf("key-%03d", i), strings.Repeat("x", 200))
	}
	soon(t, "the node that will be asked has all", func() bool {
		keys, err := clientOf(t, nodes[1], codec.String{}).List(t.Context(), "")
		return err == nil && len(keys) == 500
	})
	cfg := nodeConfig("late")
	cfg.Join = []string{nodes[1].Address()}
	late := startNode(t, cfg, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := late.WaitReady(ctx, 2); err != nil {
		t.Fatal(err)
	}
	keys, err := clientOf(t, late, codec.String{}).List(t.Context(), "")
	if err != nil || len(keys) != 500 {
		t.Errorf("%d keys, error %v", len(keys), err)
	}
}

func TestWaitReadyEnds(t *testing.T) {
	n := startNode(t, nodeConfig("alone"), nil)
	if err := n.WaitReady(t.Context(), 0); err != nil {
		t.Errorf("a node that is to be alone: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err := n.WaitReady(ctx, 1)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "have 0") {
		t.Errorf("without peers: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- n.WaitReady(context.WithoutCancel(t.Context()), 1) }()
	if err := n.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := <-done; !errors.Is(err, kv.ErrClosed) {
		t.Errorf("of a closed node: %v", err)
	}
}

func TestStartFailsWithoutRequiredPeersOnly(t *testing.T) {
	cfg := nodeConfig("first")
	cfg.Join = []string{"127.0.0.1:1", "dns+no-such-name.invalid:7946"} // nobody is there
	startNode(t, cfg, nil)
	cfg.RequirePeers, cfg.RequirePeersTimeout = 1, 50*time.Millisecond
	_, err := Start(t.Context(), cfg)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "require_peers") {
		t.Errorf("error %v", err)
	}
}

func TestPingFailsInIsolation(t *testing.T) {
	fabric := network.NewFabric(1)
	nodes := startNodes(t, 2, fabric, nil)
	for _, n := range nodes {
		if err := n.Ping(t.Context()); err != nil {
			t.Errorf("with a peer: %v", err)
		}
	}
	fabric.Partition([]netip.AddrPort{nodes[0].net.Self().Addr})
	client := clientOf(t, nodes[1], codec.String{})
	soon(t, "the other is missed", func() bool { return nodes[1].Ping(t.Context()) != nil })
	for _, err := range []error{nodes[1].Ping(t.Context()), kv.Ping(t.Context(), client)} {
		if !errors.Is(err, kv.ErrUnavailable) || !strings.Contains(err.Error(), "without any live peer") {
			t.Errorf("isolated: %v", err)
		}
	}
	putValue(t, client, "key", "written alone")
	fabric.Heal()
	awaitStored(t, clientOf(t, nodes[0], codec.String{}), "key", "written alone")
	soon(t, "all is well", func() bool { return nodes[1].Ping(t.Context()) == nil })
}

func TestCloseHandsOnWhatNobodyHas(t *testing.T) {
	nodes := startNodes(t, 3, nil, nil)
	putValue(t, clientOf(t, nodes[2], codec.String{}), "large", strings.Repeat("x", 300<<10))
	for i := range 200 {
		putValue(t, clientOf(t, nodes[2], codec.String{}), fmt.Sprintf("small/%d", i), "x")
	}
	if err := nodes[2].Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[:2] {
		awaitStored(t, clientOf(t, n, codec.String{}), "large", strings.Repeat("x", 300<<10))
		soon(t, "all keys are there", func() bool {
			keys, err := clientOf(t, n, codec.String{}).List(t.Context(), "small/")
			return err == nil && len(keys) == 200
		})
		awaitPeerCount(t, n, 1)
		if since := n.net.Health().FailedSince; !since.IsZero() {
			t.Error("the node that left counts as failed")
		}
	}
	if err := nodes[2].Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if err := nodes[2].Ping(t.Context()); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("ping of a closed node: %v", err)
	}
	if _, err := clientOf(t, nodes[2], codec.String{}).Get(t.Context(), "large"); !errors.Is(err, kv.ErrClosed) {
		t.Errorf("get of a closed node: %v", err)
	}
}

func TestClientNeedsACodecOfTheNode(t *testing.T) {
	n := startNode(t, nodeConfig("node"), nil, codec.String{})
	if _, err := n.Client(counts, nil); err == nil || !strings.Contains(err.Error(), "counts") {
		t.Errorf("error %v", err)
	}
}

// A pod must become ready before a headless service has its name, and before
// there are others.
func TestFirstNodeIsReady(t *testing.T) {
	cfg := nodeConfig("first")
	cfg.Join = []string{"127.0.0.1:1", "dns+no-such-name.invalid:7946"}
	n := startNode(t, cfg, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.WaitReady(ctx, 0); err != nil {
		t.Fatal(err)
	}
	client := clientOf(t, n, codec.String{})
	if err := kv.Ping(t.Context(), client); err != nil {
		t.Errorf("it has met nobody: %v", err)
	}
	if code, body := probe(t, n); code != http.StatusOK || !strings.Contains(body, "no node of the join list has been met") {
		t.Errorf("a probe is answered with %d %q", code, body)
	}
	if st := n.Status(Query{}); st.Node.Problem != "" || len(st.Node.Notes) != 1 {
		t.Errorf("its status is %+v", st.Node)
	}
	putValue(t, client, "key", "written alone")

	cfg = nodeConfig("second")
	cfg.Join = []string{n.Address()}
	second := startNode(t, cfg, nil)
	awaitStored(t, clientOf(t, second, codec.String{}), "key", "written alone")
	awaitPeerCount(t, n, 1)
	if code, body := probe(t, n); code != http.StatusOK || body != "well\n" {
		t.Errorf("with a peer, a probe is answered with %d %q", code, body)
	}
	second.net.Close() // without a word
	soon(t, "the first node is unready without a peer", func() bool {
		code, body := probe(t, n)
		return code == http.StatusServiceUnavailable && strings.Contains(body, "without any live peer")
	})
}

// A node with a wrong key or label is told why it stays alone.
func TestNodeSaysWhyItMeetsNobody(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"doesn't have this node's first key": func(cfg *Config) { cfg.EncryptionKeys = config.NewSecret(base64Key('b')) },
		"with another label":                 func(cfg *Config) { cfg.ClusterLabel = "other" },
		"wants encryption":                   func(cfg *Config) { cfg.EncryptionKeys = config.Secret{} },
		"no-such-name.invalid":               func(cfg *Config) { cfg.Join = []string{"no-such-name.invalid"} },
	} {
		cfg := nodeConfig("right")
		cfg.EncryptionKeys = config.NewSecret(base64Key('a'))
		right := startNode(t, cfg, nil)
		cfg.NodeName, cfg.Join = "wrong", []string{right.Address()}
		change(&cfg)
		wrong := startNode(t, cfg, nil)
		soon(t, "the note says "+name, func() bool {
			notes := wrong.Notes()
			return len(notes) == 1 && strings.Contains(notes[0], name) && !strings.Contains(notes[0], "\n")
		})
	}
}

// probe asks as a kubelet does.
func probe(t *testing.T, n *Node) (code int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	n.HealthHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	return w.Code, w.Body.String()
}
