package browsertest_test

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/polykv/polykv/codec"
	"github.com/polykv/polykv/internal/browsertest"
	"github.com/polykv/polykv/kv/memberlist"
)

var counts = memberlist.MapCodec[string, int]{ID: "counts"}

// evil is a value whose methods misbehave when they are shown.
type evil struct{ Text string }

func (evil) MarshalJSON() ([]byte, error) { panic("no JSON of me: " + hostile) }

type evilCodec struct{}

func (evilCodec) Encode(v any) ([]byte, error) { return []byte(v.(evil).Text), nil }
func (evilCodec) Decode(b []byte) (any, error) { return evil{string(b)}, nil }
func (evilCodec) CodecID() string              { return "evil" }

func gossipNode(t *testing.T, name string, join ...string) *memberlist.Node {
	t.Helper()
	cfg := memberlist.DefaultConfig()
	cfg.NodeName, cfg.ClusterLabel, cfg.Join = name, "test", join
	cfg.BindAddress, cfg.BindPort = "127.0.0.1", 0
	cfg.ProbeInterval, cfg.ProbeTimeout = 200*time.Millisecond, 100*time.Millisecond
	cfg.GossipInterval = 50 * time.Millisecond
	n, err := memberlist.Start(t.Context(), cfg, codec.String{}, codec.Bytes{}, counts, evilCodec{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// fill writes what the page is to show.
func fill(t *testing.T, n *memberlist.Node) {
	t.Helper()
	ones := memberlist.NewMap[string, int]()
	ones.Set("one", 1)
	for _, v := range []struct {
		codec codec.Codec
		key   string
		value any
	}{
		{codec.String{}, "text", "a plain text"},
		{codec.String{}, "hostile/" + strings.ReplaceAll(hostile, "/", "_"), hostile},
		{codec.String{}, "long", strings.Repeat("x", 3000)},
		{codec.String{}, "gone", "to be deleted"},
		{codec.Bytes{}, "bytes", []byte{0xff, 0xfe}},
		{evilCodec{}, "evil", evil{"x"}},
		{counts, "map", ones},
	} {
		client, err := n.Client(v.codec, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = client.CAS(t.Context(), v.key, func(any) (any, bool, error) { return v.value, false, nil })
		if err == nil && v.key == "gone" {
			err = client.Delete(t.Context(), v.key)
		}
		if err != nil {
			t.Fatalf("%s: %v", v.key, err)
		}
	}
}

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute: %s", what)
		}
	}
}

func TestGossipPage(t *testing.T) {
	p := browsertest.Open(t)
	first := gossipNode(t, "node-0")
	gossipNode(t, "node-1", first.Address())
	fill(t, first)
	await(t, "both nodes are members", func() bool { return len(first.Status(memberlist.Query{}).Members) == 2 })
	server := httptest.NewServer(first.StatusHandler())
	t.Cleanup(server.Close)
	const title = "polykv gossip: node-0"
	hostileKey := "hostile/" + strings.ReplaceAll(hostile, "/", "_")
	for _, screen := range []browsertest.Screen{browsertest.Desktop, browsertest.Phone, browsertest.PhoneDark} {
		p.Load(server.URL+"/?tombstones=1", screen)
		checkPage(t, p, screen, page{title: title, texts: map[string]string{
			"h1":       "node-0",
			"#address": first.Address(),
			"#cluster": "test, not encrypted",
			"#state":   "exchanges changes with 2 live members, itself included",
			`section[aria-labelledby=tombstones] tbody th`:                                "gone",
			`section[aria-labelledby=members] tbody tr:nth-child(2) td[data-label=State]`: "alive",
			`section[aria-labelledby=keys] tbody tr:nth-child(3) th`:                      hostileKey,
			`section[aria-labelledby=keys] tbody tr:nth-child(4) td[data-label="Value"]`:  "large: open the key",
			`section[aria-labelledby=keys] tbody tr:nth-child(1) td[data-label="Value"]`:  `{"base64":"//4="}`,
			`section[aria-labelledby=queues] tbody tr:nth-child(1) td[data-label=Length]`: "0 (0 B)",
		}})
		p.Load(server.URL+"/"+"?"+url.Values{"key": {hostileKey}}.Encode(), screen)
		var shown string
		if err := json.Unmarshal([]byte(p.Text("#value")), &shown); err != nil || shown != hostile {
			t.Errorf("the hostile value is shown as %q, %v", p.Text("#value"), err)
		}
		checkPage(t, p, screen, page{title: title})
	}
}
